/**
 * The guest program in a real guest: QEMU under TCG, EROFS layers on one root disk, an ext4 writable disk.
 * Needs mkfs.erofs, mkfs.ext4, busybox-static, and root (device nodes in the layers).
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BareGuest, configurationFor, GuestSession } from '../harness/bare-guest.ts';

const APPLETS =
  'sh cat echo id env ls pwd stty sleep head dd yes kill mount touch mkdir rm wc tr hostname date ip sysctl grep stat true';

let scratch: string;
let layers: string[];

function makeLayer(name: string, fill: (folder: string) => void): string {
  const folder = join(scratch, name);
  mkdirSync(folder);
  fill(folder);
  const image = join(scratch, `${name}.erofs`);
  execFileSync('mkfs.erofs', ['--quiet', image, folder]);
  return image;
}

before(() => {
  scratch = mkdtempSync(join(tmpdir(), 'guest-program-'));
  const base = makeLayer('base', (folder) => {
    for (const name of ['bin', 'etc', 'old/kept', 'opaque', 'work']) mkdirSync(join(folder, name), { recursive: true });
    cpSync('/bin/busybox', join(folder, 'bin/busybox'));
    for (const applet of APPLETS.split(' ')) symlinkSync('busybox', join(folder, 'bin', applet));
    writeFileSync(
      join(folder, 'etc/passwd'),
      'root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/sh\n',
    );
    writeFileSync(join(folder, 'etc/group'), 'root:x:0:\nalice:x:1001:\nwheel:x:10:root,alice\n');
    writeFileSync(join(folder, 'old/gone'), 'gone');
    writeFileSync(join(folder, 'old/replaced'), 'lower');
    writeFileSync(join(folder, 'opaque/hidden'), 'hidden');
    writeFileSync(join(folder, 'plain.txt'), 'not a program', { mode: 0o644 });
    writeFileSync(join(folder, 'orphan.sh'), '#!/nowhere\n', { mode: 0o755 });
    // A hostile image: its hosts file leads out of the root, its resolv.conf in a circle.
    symlinkSync('../../../../../../tmp/hosts-target', join(folder, 'etc/hosts'));
    symlinkSync('resolv.conf', join(folder, 'etc/resolv.conf'));
  });
  const upper = makeLayer('upper', (folder) => {
    for (const name of ['old', 'opaque']) mkdirSync(join(folder, name));
    execFileSync('mknod', [join(folder, 'old/gone'), 'c', '0', '0']);
    writeFileSync(join(folder, 'old/replaced'), 'upper');
    writeFileSync(join(folder, 'opaque/shown'), 'shown');
    setOpaque(join(folder, 'opaque'));
  });
  const many = Array.from({ length: 6 }, (_, index) =>
    makeLayer(`many${index}`, (folder) => writeFileSync(join(folder, `layer${index}`), String(index))),
  );
  layers = [base, upper, ...many];
});

after(() => rmSync(scratch, { recursive: true, force: true }));

function setOpaque(folder: string): void {
  execFileSync('python3', ['-c', 'import os,sys; os.setxattr(sys.argv[1], "trusted.overlay.opaque", b"y")', folder]);
}

function sha256(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

describe('a configured guest', { timeout: 240_000 }, () => {
  let guest: BareGuest;
  let session: GuestSession;

  before(async () => {
    guest = await BareGuest.boot({ layers });
    session = new GuestSession(await guest.connect());
    const hello = await session.channel.hello({ rejoin: false });
    assert.equal(hello.phase, 'fresh');
    await session.channel.configure(
      configurationFor(guest, {
        domainName: 'test',
        network: { mac: '52:54:00:12:34:56', address: '10.0.2.15', prefixLength: 32, gateway: '10.9.9.1', mtu: 1400 },
        tmpfs: [
          { mountPoint: '/scratch', options: 'size=1m,mode=1770' },
          { mountPoint: '/fast', options: 'exec' },
        ],
        epochNs: 1_900_000_000_000_000_000n,
        entropy: new Uint8Array(64).fill(7),
        shmBytes: 8 * 1024 * 1024,
        sysctls: { 'net.ipv4.ip_forward': '1' },
        workingDirectory: '/made/for/work',
      }),
    );
    const main = await session.channel.start(0, { args: ['sleep', '100000'], stdin: false });
    assert.equal(main.ok, true);
  });

  after(async () => {
    await guest[Symbol.asyncDispose]();
  });

  const sh = async (script: string, more: Partial<Parameters<GuestSession['run']>[0]> = {}) =>
    await session.run({ args: ['sh', '-c', script], ...more });

  test('a process says what it says on each stream and exits with its own code', async () => {
    const { exit, stdout, stderr } = await sh('echo out; echo err >&2; exit 7');
    assert.equal(stdout.toString(), 'out\n');
    assert.equal(stderr.toString(), 'err\n');
    assert.deepEqual(exit, { exitCode: 7, oomKilled: false });
  });

  test('a signal is an exit code above 128 and is named', async () => {
    const id = session.newId();
    await session.channel.start(id, { args: ['sh', '-c', 'echo ready; cat'], stdin: true });
    await session.printed(id, /ready/);
    session.channel.signal(id, 15);
    assert.deepEqual(await session.exitOf(id), { exitCode: 143, signal: 15, oomKilled: false });
  });

  test('environment, working directory and user are as asked', async () => {
    const { stdout } = await sh('pwd; id; echo "$HOME $FOO $HOSTNAME"; umask; ls -ldn .', {
      env: ['FOO=bar'],
      cwd: '/new/folder',
      user: 'alice',
      extraGroups: ['44'],
    });
    const [pwd, id, env, umask, folder] = stdout.toString().split('\n');
    assert.equal(pwd, '/new/folder');
    assert.match(id ?? '', /^uid=1000\(alice\) gid=1001\(alice\) groups=.*10\(wheel\).*44/);
    assert.equal(env, '/home/alice bar bare');
    assert.equal(umask, '0022');
    assert.match(folder ?? '', /^drwxr-xr-x/);
  });

  test('numeric users need no entry, and their standard streams can be opened again', async () => {
    const { stdout, exit } = await sh('id -u; id -g; echo again > /dev/stdout', { user: '4242:77' });
    assert.equal(stdout.toString(), '4242\n77\nagain\n');
    assert.equal(exit?.exitCode, 0);
  });

  test('limits, dropped capabilities, no_new_privs and the OOM score reach the process', async () => {
    const script =
      'ulimit -n; grep -E "CapBnd|CapEff|NoNewPrivs" /proc/self/status; cat /proc/self/oom_score_adj /proc/1/oom_score_adj';
    const { stdout } = await sh(script, {
      limits: [{ resource: 7, soft: 321, hard: 400 }],
      dropCapabilities: (1n << 41n) - 1n - 1n,
      noNewPrivileges: true,
      oomScoreAdj: 300,
    });
    assert.match(stdout.toString(), /^321\nCapEff:\s0+1\nCapBnd:\s0+1\nNoNewPrivs:\s1\n300\n0\n$/);
    assert.equal((await sh('cat /proc/self/oom_score_adj')).stdout.toString(), '0\n');
  });

  test('what cannot be started is explained in runc words', async () => {
    const refusal = async (spec: Parameters<GuestSession['run']>[0]) => (await session.run(spec)).outcome;
    const cases = [
      [['nosuch'], {}, 'not_found', 'exec: "nosuch": executable file not found in $PATH'],
      [['/no/such'], {}, 'not_found', 'exec: "/no/such": stat /no/such: no such file or directory'],
      [['/orphan.sh'], {}, 'not_found', 'exec /orphan.sh: no such file or directory'],
      [['/plain.txt'], {}, 'not_executable', 'exec: "/plain.txt": permission denied'],
      [['/etc'], {}, 'not_executable', 'exec: "/etc": is a directory'],
      [['true'], { user: 'foo' }, 'unknown_user', 'unable to find user foo: no matching entries in passwd file'],
      [['true'], { user: 'root:foo' }, 'unknown_user', 'unable to find group foo: no matching entries in group file'],
      [
        ['true'],
        { cwd: '/plain.txt/x' },
        'other',
        'chdir to cwd ("/plain.txt/x") set in config.json failed: not a directory',
      ],
      [[], {}, 'other', 'no command specified'],
    ] as const;
    for (const [args, more, reason, text] of cases) {
      assert.deepEqual(await refusal({ args: [...args], ...more }), { ok: false, reason, text });
    }
  });

  test('a terminal has its size, changes it, and echoes', async () => {
    const id = session.newId();
    await session.channel.start(id, {
      args: [
        'sh',
        '-c',
        'trap "stty size" WINCH; tty=$(ls -l /proc/self/fd/0); stty size; echo $TERM; while read l; do echo "<$l>"; done',
      ],
      stdin: true,
      tty: { rows: 24, columns: 80 },
    });
    await session.printed(id, /24 80\r\nxterm\r\n/);
    await session.channel.sendStdin(id, Buffer.from('hello\r'));
    await session.printed(id, /<hello>\r\n/);
    session.channel.resize(id, { rows: 50, columns: 132 });
    await session.channel.sendStdin(id, Buffer.from('x\r'));
    await session.printed(id, /50 132\r\n/);
    await session.channel.sendStdin(id, Buffer.from([4]));
    assert.equal((await session.exitOf(id)).exitCode, 0);
  });

  test('standard input arrives whole, beyond its window, and ends', async () => {
    const data = Buffer.alloc(1_000_000, 'input that is longer than the window\n');
    const id = session.newId();
    await session.channel.start(id, { args: ['cat'], stdin: true });
    const sending = session.channel.sendStdin(id, data).then(() => session.channel.endStdin(id));
    await session.exitOf(id);
    await sending;
    assert.equal(sha256(Buffer.concat(session.outputOf(id).stdout)), sha256(data));
  });

  test('a process that does not read its input does not block the sender for ever', async () => {
    const id = session.newId();
    await session.channel.start(id, { args: ['sh', '-c', 'exec <&-; echo closed; sleep 1'], stdin: true });
    await session.printed(id, /closed/);
    await session.channel.sendStdin(id, Buffer.alloc(200_000)).catch((error) => {
      assert.equal(error.code, 'guest.stdin_closed');
    });
    assert.equal((await session.exitOf(id)).exitCode, 0);
  });

  test('300 processes run at once and none mixes with another', async () => {
    const ids = Array.from({ length: 300 }, () => session.newId());
    const runs = ids.map((id) => session.run({ args: ['sh', '-c', `read x; echo ${id} $x`], stdin: true }, id));
    await session.channel.ping();
    await Promise.all(
      ids.map(async (id) => {
        await session.channel.sendStdin(id, Buffer.from(`in${id}\n`));
        session.channel.endStdin(id);
      }),
    );
    const results = await Promise.all(runs);
    assert.deepEqual(
      results.map(({ stdout }) => stdout.toString()),
      ids.map((id) => `${id} in${id}\n`),
    );
  });

  test('an exec ends with its own process, whatever its children keep open', async () => {
    const began = performance.now();
    const { exit, stdout } = await sh('sleep 1000 & echo done');
    assert.equal(exit?.exitCode, 0);
    assert.equal(stdout.toString(), 'done\n');
    assert.ok(performance.now() - began < 10_000);
  });

  test('whiteouts and opaque folders hide what lies below, and all layers are there', async () => {
    const { stdout } = await sh('ls /old /opaque; cat /old/replaced; ls -d /layer*');
    assert.equal(
      stdout.toString(),
      `/old:\nkept\nreplaced\n\n/opaque:\nshown\nupper${Array.from({ length: 6 }, (_, i) => `/layer${i}\n`).join('')}`,
    );
  });

  test('mounts, names, network and clock are as configured', async () => {
    const { stdout } = await sh(
      'hostname; cat /tmp/hosts-target /etc/hostname; grep nameserver /etc/resolv.conf; ip -4 addr show eth0 | grep -E "mtu|inet"; ip route; date +%Y; cat /proc/sys/net/ipv4/ip_forward; ' +
        'ls -d /made/for/work; grep -E " (/scratch|/fast|/dev/shm|/dev/mqueue|/dev/pts|/sys/fs/cgroup) " /proc/mounts; ip addr show lo | grep 127',
    );
    const text = stdout.toString();
    for (const pattern of [
      /^bare\n127.0.0.1 localhost\n10.0.2.15 bare\nbare\nnameserver 10.0.2.3\n/,
      /mtu 1400/,
      /inet 10.0.2.15\/32/,
      /default via 10.9.9.1 dev eth0/,
      /^2030$/m,
      /^1$/m,
      /^\/made\/for\/work$/m,
      /^tmpfs \/scratch tmpfs rw,nosuid,nodev,noexec,.*size=1024k,mode=1770/m,
      /^tmpfs \/fast tmpfs rw,nosuid,nodev,relatime/m,
      /^tmpfs \/dev\/shm .*size=8192k/m,
      /^mqueue \/dev\/mqueue/m,
      /^cgroup2 \/sys\/fs\/cgroup/m,
      /127.0.0.1\/8/,
    ]) {
      assert.match(text, pattern);
    }
  });

  test('top lists the processes of the image and nothing else', async () => {
    const entries = await session.channel.top();
    const main = entries.find((entry) => entry.command === 'sleep 100000');
    assert.ok(main);
    assert.equal(main.user, 'root');
    assert.equal(main.tty, '?');
    assert.equal(main.ppid, 1);
    assert.ok(main.virtualBytes > 4096 && main.residentBytes <= main.virtualBytes);
    assert.ok(Math.abs(main.startedAtMs - 1_900_000_000_000) < 300_000);
    assert.ok(!entries.some((entry) => entry.command.startsWith('[k')));
  });

  test('20 MB with slow acknowledgements arrive byte for byte, and others are served meanwhile', async () => {
    const script = 'i=0; while [ $i -lt 20 ]; do yes "$i line of a flood" | head -c 1000000; i=$((i+1)); done';
    const { channel } = session;
    const ack = channel.ack.bind(channel);
    channel.ack = (...what) => void setTimeout(() => ack(...what), 20);
    const id = session.newId();
    const other = await (async () => {
      await session.channel.start(id, { args: ['sh', '-c', script], stdin: false });
      const began = performance.now();
      const run = await sh('echo quick');
      return { run, ms: performance.now() - began };
    })();
    assert.equal(other.run.stdout.toString(), 'quick\n');
    assert.equal((await session.exitOf(id)).exitCode, 0);
    channel.ack = ack;
    const expected = Buffer.concat(
      Array.from({ length: 20 }, (_, i) => Buffer.alloc(1_000_000, `${i} line of a flood\n`)),
    );
    assert.equal(sha256(Buffer.concat(session.outputOf(id).stdout)), sha256(expected));
  });

  test('a writer waits when nobody acknowledges, at 128 KiB and what the pipe holds', async () => {
    let silent = true;
    const { socket } = session;
    const held: number[] = [];
    const { channel } = session;
    const ack = channel.ack.bind(channel);
    channel.ack = (id, stream, offset) => {
      if (silent) held.push(offset);
      else ack(id, stream, offset);
    };
    const id = session.newId();
    await channel.start(id, { args: ['yes'], stdin: false });
    await sleep(1500);
    assert.equal(held.at(-1), 128 * 1024);
    silent = false;
    ack(id, 'stdout', 128 * 1024);
    await sleep(300);
    assert.ok(Buffer.concat(session.outputOf(id).stdout).length > 256 * 1024);
    channel.signal(id, 9);
    assert.equal((await session.exitOf(id)).exitCode, 137);
    channel.ack = ack;
    assert.ok(!socket.destroyed);
  });

  test('after a connection broke in a flood, no byte is lost or repeated', async () => {
    const total = 3_000_000;
    const id = session.newId();
    const script = `yes "0123456789 a numbered flood" | head -c ${total}; echo err >&2; exit 3`;
    await session.channel.start(id, { args: ['sh', '-c', script], stdin: false });
    const chunks: Buffer[] = [];
    for (let breaks = 0; breaks < 5; breaks += 1) {
      await session.printed(id, /flood/);
      session.socket.destroy();
      await session.closed;
      const kept = Buffer.concat(session.outputOf(id).stdout);
      chunks.push(kept);
      const offset = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
      const next = new GuestSession(await guest.connect());
      const hello = await next.channel.hello({ rejoin: true });
      assert.equal(hello.phase, 'configured');
      const state = hello.processes.find((process) => process.id === id);
      assert.ok(state && state.stdoutBytes >= offset);
      session = next;
      session.channel.resume(id, { stdout: offset, stderr: 0 });
      session.channel.resume(0, { stdout: 0, stderr: 0 });
    }
    const exit = await session.exitOf(id);
    chunks.push(Buffer.concat(session.outputOf(id).stdout));
    assert.equal(exit.exitCode, 3);
    assert.equal(sha256(Buffer.concat(chunks)), sha256(Buffer.alloc(total, '0123456789 a numbered flood\n')));
  });

  test('a request cut in the middle by a broken connection does not confuse the next one', async () => {
    const { encodeFrames } = await import('../../src/engine/guest-channel/frame.ts');
    const frame = encodeFrames(4, 0, Buffer.alloc(9000, 0xb3));
    for (const cut of [1, 2, 15, 16, 17, 5000]) {
      session.socket.write(frame.subarray(0, cut));
      await sleep(50);
      session.socket.destroy();
      await session.closed;
      session = new GuestSession(await guest.connect());
      await session.channel.hello({ rejoin: true });
      session.channel.resume(0, { stdout: 0, stderr: 0 });
      await session.channel.ping();
    }
  });

  test('no bytes from the host, however framed, bring it down', async () => {
    const { encodeFrames } = await import('../../src/engine/guest-channel/frame.ts');
    const { seededRandom } = await import('../../src/engine/guest-channel/guest-double.ts');
    const random = seededRandom(7);
    const noise = (length: number) => Buffer.from(Array.from({ length }, () => Math.floor(random() * 256)));
    for (const type of [0, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14, 99]) {
      for (let round = 0; round < 30; round += 1) {
        session.socket.write(encodeFrames(type, 1 + Math.floor(random() * 3), noise(Math.floor(random() * 200))));
      }
    }
    session.socket.write(encodeFrames(3, 4, Buffer.alloc(1024 * 1024, 0xff)));
    session.socket.write(noise(100_000));
    session.socket.end();
    await session.closed;
    session = new GuestSession(await guest.connect());
    await session.channel.hello({ rejoin: true });
    session.channel.resume(0, { stdout: 0, stderr: 0 });
    assert.equal((await sh('echo alive')).stdout.toString(), 'alive\n');
  });

  test('the kernel killing for memory is told', async () => {
    const { exit } = await sh('x=0123456789abcdef; while :; do x=$x$x; done', { oomScoreAdj: 1000 });
    assert.equal(exit?.oomKilled, true);
    assert.equal(exit?.exitCode, 137);
    const memory = await session.channel.memory();
    assert.ok(memory.oomKills >= 1);
    assert.ok(memory.totalBytes > 80 * 1024 * 1024 && memory.availableBytes <= memory.totalBytes);
  });

  test('nothing runs while nothing happens, with a host and without', async (t) => {
    const share = async () => {
      const [cpu, wall] = [guest.cpuMs(), performance.now()];
      await sleep(3000);
      return (guest.cpuMs() - cpu) / (performance.now() - wall);
    };
    const connected = await share();
    session.socket.destroy();
    await session.closed;
    const alone = await share();
    session = new GuestSession(await guest.connect());
    await session.channel.hello({ rejoin: true });
    session.channel.resume(0, { stdout: 0, stderr: 0 });
    t.diagnostic(`share of a core: ${connected.toFixed(4)} with a host, ${alone.toFixed(4)} without`);
    assert.ok(connected < 0.05, `${connected} of a core with a host`);
    assert.ok(alone < 0.05, `${alone} of a core without a host`);
  });

  test('when the main process ends all others end before it, the disk is flushed, the machine goes off', async () => {
    const id = session.newId();
    await session.channel.start(id, { args: ['sh', '-c', 'echo last words; sleep 1000'], stdin: false });
    await session.printed(id, /last words/);
    const order: number[] = [];
    void session.exitOf(id).then(() => order.push(id));
    session.channel.signal(0, 9);
    const exit = await session.exitOf(0);
    order.push(0);
    assert.equal(exit.exitCode, 137);
    assert.deepEqual(order, [id, 0]);
    const late = await session.channel.start(session.newId(), { args: ['true'], stdin: false });
    assert.equal(late.ok, false);
    session.channel.exitAck(0);
    await session.synced;
    assert.equal(await guest.exited, 0);
    execFileSync('e2fsck', ['-fn', join(guest.folder, 'data.raw')]);
  });
});

describe('a guest with a read-only root', { timeout: 60_000 }, () => {
  test('refuses writes to the root, takes them on tmpfs, and powers off when told', async () => {
    await using guest = await BareGuest.boot({ layers: layers.slice(0, 1) });
    const session = new GuestSession(await guest.connect());
    await session.channel.hello({ rejoin: true });
    await session.channel.configure(
      configurationFor(guest, { readOnlyRoot: true, tmpfs: [{ mountPoint: '/t', options: '' }] }),
    );
    const run = await session.run({ args: ['sh', '-c', 'touch /t/x && echo tmpfs; touch /x || echo refused'] });
    assert.equal(run.stdout.toString(), 'tmpfs\nrefused\n');
    session.channel.powerOff();
    await session.synced;
    assert.equal(await guest.exited, 0);
  });
});

test('the probe answers with the nonce reversed and powers off', { timeout: 60_000 }, async () => {
  await using guest = await BareGuest.boot({ layers: [], kernelOptions: 'berth.probe=abc123' });
  assert.equal(await guest.exited, 0);
  assert.match(guest.console(), /berth-probe:321cba/);
});

test('a configuration that cannot work is refused with its step', { timeout: 60_000 }, async () => {
  await using guest = await BareGuest.boot({ layers: [] });
  const session = new GuestSession(await guest.connect());
  await session.channel.hello({ rejoin: false });
  const broken = session.channel.configure(configurationFor(guest, { layers: [{ firstSector: 0, sectors: 100 }] }));
  await assert.rejects(broken, { code: 'guest.configure_failed', facts: { step: 'finding the root disk' } });
});
