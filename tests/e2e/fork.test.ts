/** Forks: a running VM's memory and disk as more VMs, each with an identity of its own. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { findProcesses, signalProcess } from '#platform';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { DockerCli } from '../harness/docker-cli.ts';
import { createVm, eventually, execIn, inspectVm, logsOf, startVm } from '../harness/vm-client.ts';

const COUNT = 'i=0; while true; do echo "line $i"; i=$((i+1)); usleep 20000; done';

interface Forked {
  readonly vms: readonly { readonly id: string; readonly name: string }[];
  readonly failures?: readonly string[];
  readonly message?: string;
}

describe('forks', () => {
  let daemon: TestDaemon;

  before(async () => {
    daemon = await startTestDaemon();
  });

  afterEach(async () => {
    const { body } = await daemon.call('GET', '/containers/json?all=1');
    for (const { Id } of body as { Id: string }[]) await daemon.call('DELETE', `/containers/${Id}?force=1`);
  });

  after(async () => assert.deepEqual(await daemon.dispose(), [], 'nothing is left behind'));

  const fork = async (vm: string, query = ''): Promise<{ status: number; body: Forked }> => {
    const answer = await daemon.call('POST', `/berth/v1/vms/${vm}/fork${query}`);
    return answer as { status: number; body: Forked };
  };
  const forked = async (vm: string, query = ''): Promise<readonly { id: string; name: string }[]> => {
    const { status, body } = await fork(vm, query);
    assert.equal(status, 201, JSON.stringify(body));
    return body.vms;
  };
  const run = async (script: string, name: string): Promise<void> => {
    await createVm(daemon, name, script);
    await startVm(daemon, name);
  };
  const ask = async (vm: string, script: string): Promise<string> =>
    (await execIn(daemon, vm, ['sh', '-c', script])).output.trim();
  const lines = async (vm: string): Promise<string[]> => (await logsOf(daemon, vm)).split('\n').slice(0, -1);
  const removeAll = async (...names: string[]): Promise<void> => {
    for (const name of names) await daemon.call('DELETE', `/containers/${name}?force=1`);
  };

  test('a fork goes on where its parent was, and the parent as if nothing had been', async () => {
    await run(`echo kept >/file; echo word >/dev/shm/word; ${COUNT}`, 'counter');
    await eventually('it counts', 20_000, async () => (await lines('counter')).length > 50);
    const pid = (await inspectVm(daemon, 'counter'))?.State.Pid;
    const [one] = await forked('counter');
    assert.equal(one?.name, 'counter-fork-1');
    await eventually('the fork counts', 20_000, async () => (await lines('counter-fork-1')).length > 50);
    const own = await lines('counter-fork-1');
    const first = Number(own[0]?.slice('line '.length));
    assert.ok(first >= 50, `its log begins at the fork, not before: ${own[0]}`);
    for (const [index, line] of own.entries()) assert.equal(line, `line ${first + index}`);
    for (const [index, line] of (await lines('counter')).entries()) assert.equal(line, `line ${index}`);
    assert.equal((await inspectVm(daemon, 'counter'))?.State.Pid, pid, 'it is the same QEMU');
    assert.equal(
      await ask('counter-fork-1', 'cat /file /dev/shm/word; echo mine >/file; cat /file'),
      'kept\nword\nmine',
    );
    assert.equal(await ask('counter', 'cat /file'), 'kept', 'the disks have parted');
    await removeAll('counter-fork-1');
    assert.equal(await ask('counter', 'cat /dev/shm/word'), 'word', 'the parent needs no fork');
  });

  test('every fork has its own name, address, hardware address, machine id and clock', async () => {
    const image = makeImage(daemon.socket);
    const body = { Image: image, Cmd: ['/bin/sh', '-c', COUNT], HostConfig: {} };
    assert.equal((await daemon.call('POST', '/containers/create?name=self', body)).status, 201);
    await startVm(daemon, 'self');
    const vms = ['self', ...(await forked('self', '?count=2&name=other')).map(({ name }) => name)];
    assert.deepEqual(vms, ['self', 'other-1', 'other-2']);
    const script =
      'hostname; cat /etc/hostname; cat /sys/class/net/eth0/address; ip -4 -o addr show dev eth0; cat /etc/machine-id; ' +
      'tail -n 1 /etc/hosts; date +%s; ip route | grep ^default; cat /proc/self/cgroup';
    const answers = await Promise.all(vms.map(async (vm) => (await ask(vm, script)).split('\n')));
    for (const field of [0, 1, 2, 3, 4, 5]) {
      const values = answers.map((answer) => answer[field]);
      assert.equal(new Set(values).size, 3, `each its own: ${values.join(' ')}`);
    }
    for (const [index, answer] of answers.entries()) {
      const seen = await inspectVm(daemon, vms[index] ?? '');
      const address = seen?.NetworkSettings.IPAddress ?? '?';
      assert.equal(answer[0], index === 0 ? answer[0] : seen?.Id.slice(0, 12));
      assert.ok(answer[3]?.includes(`inet ${address}/`), answer[3]);
      assert.equal(answer[4], seen?.Id.slice(0, 32));
      assert.equal(answer[5], `${address}\t${answer[0]}`);
      assert.ok(Math.abs(Number(answer[6]) - Date.now() / 1000) < 3, 'the clock is right');
      assert.match(answer[7] ?? '', /^default via /);
      assert.equal(answer[8], '0::/', 'its processes are where they were');
    }
    for (const vm of vms)
      await eventually(
        `the processes of ${vm} are where they were`,
        20_000,
        async () => (await ask(vm, 'cat /proc/[0-9]*/cgroup 2>/dev/null | sort -u')) === '0::/',
      );
    assert.match(await ask('other-1', 'nslookup other-2 | tail -n 3'), /172\.|10\.|192\./, 'forks have names');
  });

  test('a process that runs draws other random bytes in every fork and in the parent', async () => {
    await run('while true; do head -c 16 /dev/urandom | xxd -p; done', 'random');
    await eventually('it draws', 20_000, async () => (await lines('random')).length > 20);
    const names = (await forked('random', '?count=2')).map(({ name }) => name);
    const seen = new Map<string, string>();
    for (const vm of [...names, 'random']) {
      await eventually(`${vm} draws`, 20_000, async () => (await lines(vm)).length > 50);
      // The first line of a fork may have been drawn before it and written after it.
      for (const line of (await lines(vm)).slice(vm === 'random' ? 0 : 1)) {
        assert.ok(!seen.has(line), `${vm} drew what ${seen.get(line)} has drawn: ${line}`);
        seen.set(line, vm);
      }
    }
  });

  test('a server answers in parent and fork, each at its own address', async () => {
    await run('mkdir -p /dev/shm/www; echo warm >/dev/shm/www/index.html; httpd -f -p 80 -h /dev/shm/www', 'web');
    const addressOf = async (vm: string): Promise<string> =>
      (await inspectVm(daemon, vm))?.NetworkSettings.IPAddress ?? '';
    const page = (address: string): Promise<string | undefined> =>
      new Promise((resolve) => {
        const sent = get({ host: address, port: 80, agent: false, timeout: 2_000 }, (response) => {
          let text = '';
          response.on('data', (chunk: Buffer) => {
            text += chunk.toString();
          });
          response.on('end', () => resolve(text.trim()));
        });
        sent.on('timeout', () => sent.destroy());
        sent.on('error', () => resolve(undefined));
      });
    await eventually('it serves', 20_000, async () => (await page(await addressOf('web'))) === 'warm');
    const [one] = await forked('web');
    assert.equal(await page(await addressOf(one?.name ?? '')), 'warm');
    await ask(one?.name ?? '', 'echo forked >/dev/shm/www/index.html');
    assert.equal(await page(await addressOf(one?.name ?? '')), 'forked');
    assert.equal(await page(await addressOf('web')), 'warm');
  });

  test('an open connection stays the parent’s; in the fork it ends with an error', async () => {
    const sockets: Socket[] = [];
    const heard: string[] = [];
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on('error', (error) => heard.push(`error ${error.message}`));
      socket.on('close', () => heard.push('closed'));
      socket.on('data', (data) => heard.push(data.toString()));
    });
    await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
    const { port } = server.address() as { port: number };
    const script = `gw=$(ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p'); mkfifo /in; sleep 100000 >/in & nc $gw ${port} </in; echo "nc ended"; sleep 100000`;
    await run(script, 'talker');
    await eventually('it is connected', 20_000, async () => sockets.length === 1);
    sockets[0]?.write('before\n');
    await eventually('it hears', 20_000, async () => (await lines('talker')).includes('before'));
    const [one] = await forked('talker');
    await eventually('the fork has lost it', 10_000, async () => (await lines(one?.name ?? '')).includes('nc ended'));
    sockets[0]?.write('after\n');
    await eventually('the parent hears on', 20_000, async () => (await lines('talker')).includes('after'));
    await ask('talker', 'echo said >/in');
    await eventually('the host hears the parent', 20_000, async () => heard.includes('said\n'));
    assert.deepEqual(heard, ['said\n'], 'nobody closed or reset the connection');
    assert.deepEqual((await lines('talker')).slice(0, 2), ['before', 'after']);
    sockets[0]?.destroy();
    server.close();
  });

  test('four forks at once all answer; those that are removed leave the others alone', async () => {
    await run(COUNT, 'many');
    const vms = await forked('many', '?count=4');
    const names = vms.map(({ name }) => name);
    assert.deepEqual(names, ['many-fork-1', 'many-fork-2', 'many-fork-3', 'many-fork-4']);
    assert.deepEqual(await Promise.all(names.map((name) => ask(name, 'echo $((6*7))'))), ['42', '42', '42', '42']);
    await removeAll('many', 'many-fork-1', 'many-fork-3');
    assert.deepEqual(await forked('many-fork-2').then((again) => again.map(({ name }) => name)), [
      'many-fork-2-fork-1',
    ]);
    assert.equal(await ask('many-fork-2-fork-1', 'hostname | wc -c'), '13', 'a fork can be forked');
  });

  test('a fork that fails leaves the others, and nothing of itself', async () => {
    await run(COUNT, 'some');
    const parentPid = (await inspectVm(daemon, 'some'))?.State.Pid;
    const answer = fork('some', '?count=3');
    const victim = await eventually('a fork’s QEMU is there', 10_000, async () => {
      const found = await findProcesses(`${daemon.runDir}/vm/`);
      return found.find(
        ({ pid, argv }) =>
          pid !== parentPid && argv[0]?.includes('qemu') && argv.some((word) => /\/vm\/v[0-9a-f]{12}\/qmp/.test(word)),
      );
    });
    signalProcess(victim.pid, 'SIGKILL');
    const { status, body } = await answer;
    assert.equal(status, 201, JSON.stringify(body));
    assert.equal(body.vms.length, 2);
    assert.equal(body.failures?.length, 1);
    for (const { name } of body.vms) assert.equal(await ask(name, 'echo hi'), 'hi');
    assert.equal(await ask('some', 'echo hi'), 'hi');
    await eventually('the failed one is gone', 10_000, async () => {
      const { body: list } = await daemon.call('GET', '/containers/json?all=1');
      return (list as unknown[]).length === 3;
    });
  });

  test('an exec under way goes on in the fork without a client, and standard input reaches the fork', async () => {
    const body = { Image: 'berth/busybox', Cmd: ['cat'], OpenStdin: true, AttachStdin: true, HostConfig: {} };
    assert.equal((await daemon.call('POST', '/containers/create?name=cat', body)).status, 201);
    await startVm(daemon, 'cat');
    const exec = execIn(daemon, 'cat', ['sh', '-c', 'while [ ! -e /end ]; do usleep 50000; done; echo over']);
    await eventually('the exec runs', 20_000, async () => (await ask('cat', 'ps')).includes('usleep'));
    const [one] = await forked('cat', '?name=kitten');
    assert.equal(one?.name, 'kitten');
    assert.match(await ask('kitten', 'ps'), /while \[/);
    await ask('kitten', 'touch /end');
    await eventually('it ends there', 20_000, async () => !(await ask('kitten', 'ps')).includes('while ['));
    assert.match(await ask('cat', 'ps'), /while \[/, 'and goes on here');
    await ask('cat', 'touch /end');
    assert.deepEqual(await exec, { output: 'over\n', exitCode: 0 });
    const docker = new DockerCli(daemon.socket);
    const attached = docker.start(['attach', '--sig-proxy=false', 'kitten']);
    attached.write('to the fork\n');
    await attached.untilPrinted('to the fork');
    attached.signal('SIGKILL');
    await attached.finished();
    assert.equal(await logsOf(daemon, 'kitten'), 'to the fork\n');
    assert.equal(await logsOf(daemon, 'cat'), '');
  });

  test('published ports are new ones, and a VM that goes away by itself has forks that do', async () => {
    const host = { PortBindings: { '80/tcp': [{ HostPort: '18099' }] }, AutoRemove: true };
    await createVm(daemon, 'shop', 'echo hi >/index.html; httpd -f -p 80 -h /', host);
    await startVm(daemon, 'shop');
    const page = (from: number): string =>
      spawnSync('curl', ['-s', '-m', '5', `http://127.0.0.1:${from}/index.html`]).stdout.toString();
    await eventually('it serves', 20_000, async () => page(18_099) === 'hi\n');
    const [one] = await forked('shop');
    const { body } = await daemon.call('GET', `/containers/${one?.id}/json`);
    const ports = (body as { NetworkSettings: { Ports: Record<string, { HostPort: string }[]> } }).NetworkSettings
      .Ports;
    const port = Number(ports['80/tcp']?.[0]?.HostPort);
    assert.ok(port > 0 && port !== 18099, `port ${port}`);
    assert.equal(page(port), 'hi\n');
    await daemon.call('POST', `/containers/${one?.id}/kill`);
    await eventually('it is gone', 10_000, async () => (await inspectVm(daemon, one?.id ?? '')) === undefined);
  });

  test('what cannot be forked is refused in words', async () => {
    await createVm(daemon, 'still', COUNT);
    const refused = async (status: number, words: RegExp, vm: string, query = ''): Promise<void> => {
      const answer = await fork(vm, query);
      assert.equal(answer.status, status, JSON.stringify(answer.body));
      assert.match(answer.body.message ?? '', words);
    };
    await refused(404, /No such container: nobody/, 'nobody');
    await refused(409, /VM still is not running/, 'still');
    await startVm(daemon, 'still');
    await refused(400, /count: 0 is not a number of forks from 1 to 100/, 'still', '?count=0');
    await refused(400, /count: 1.5/, 'still', '?count=1.5');
    await refused(400, /"many" is not a number/, 'still', '?count=many');
    await refused(400, /Invalid container name/, 'still', '?name=-bad-');
    await refused(409, /already in use/, 'still', '?name=still');
    await daemon.call('POST', '/containers/still/pause');
    await refused(409, /paused.*berth unpause still/, 'still');
    await daemon.call('POST', '/containers/still/unpause');
    assert.equal(
      ((await daemon.call('GET', '/containers/json?all=1')).body as unknown[]).length,
      1,
      'nothing was made',
    );
  });

  test('a daemon killed at any moment of a fork leaves the parent running and no half-made fork', async () => {
    await run(COUNT, 'rock');
    for (const delayMs of [0, 10, 25, 40, 60, 90, 120, 160, 200, 260]) {
      const answer = fork('rock', '?count=2').catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      await daemon.crash();
      await answer;
      await daemon.start();
      assert.equal((await inspectVm(daemon, 'rock'))?.State.Status, 'running', `after ${delayMs} ms`);
      const before = (await lines('rock')).length;
      await eventually(
        `rock counts on after ${delayMs} ms`,
        20_000,
        async () => (await lines('rock')).length > before + 5,
      );
      assert.equal(await ask('rock', 'echo hi'), 'hi');
      const others = await eventually('forks are there or not', 30_000, async () => {
        const { body } = await daemon.call('GET', '/containers/json?all=1');
        const found = (body as { Names: string[]; State: string }[]).filter(({ Names }) => Names[0] !== '/rock');
        return found.every(({ State }) => State === 'running') && found.map(({ Names }) => Names[0]?.slice(1) ?? '');
      });
      for (const name of others) assert.equal(await ask(name, 'echo hi'), 'hi', `${name} after ${delayMs} ms`);
      await removeAll(...others);
    }
    for (const [index, line] of (await lines('rock')).entries()) assert.equal(line, `line ${index}`);
  });
});

/** busybox with an /etc/machine-id, which berth binds its own over. */
function makeImage(socket: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'fork-image-'));
  try {
    for (const name of ['bin', 'etc', 'dev', 'proc', 'sys']) mkdirSync(join(folder, name));
    cpSync('/bin/busybox', join(folder, 'bin/busybox'));
    const applets = 'sh sort hostname cat grep ip tail date usleep nslookup echo';
    for (const applet of applets.split(' ')) symlinkSync('busybox', join(folder, 'bin', applet));
    writeFileSync(join(folder, 'etc/machine-id'), `${'0'.repeat(32)}\n`);
    const archive = execFileSync('tar', ['-C', folder, '-c', '.'], { maxBuffer: 64 * 1024 * 1024 });
    const options = { input: archive, timeout: 60_000, killSignal: 'SIGKILL' as const };
    execFileSync('docker', ['-H', `unix://${socket}`, 'import', '-', 'with-machine-id:latest'], options);
    return 'with-machine-id:latest';
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
