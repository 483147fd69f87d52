/** Volumes by the real docker CLI: disks that outlive VMs, on machines of every kind, one VM at a time. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { killAndWait, processInfo, runProcess } from '#platform';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { DockerCli } from '../harness/docker-cli.ts';
import { figuresOf } from '../harness/metrics.ts';
import { untilTemplate, wayOf } from '../harness/supply.ts';
import { createVm, eventually, execIn, inspectVm, startVm } from '../harness/vm-client.ts';

const BERTH = new URL('../../berth', import.meta.url).pathname;
const IMAGE = 'berth/busybox';

const sh = async (daemon: TestDaemon, name: string, script: string): Promise<string> =>
  (await execIn(daemon, name, ['sh', '-c', script])).output;

/** A VM that waits, with volumes. */
async function started(daemon: TestDaemon, name: string, ...binds: string[]): Promise<void> {
  await createVm(daemon, name, 'exec sleep 600', { Binds: binds });
  await startVm(daemon, name);
}

async function removeVm(daemon: TestDaemon, name: string): Promise<void> {
  assert.equal((await daemon.call('DELETE', `/containers/${name}?force=1`)).status, 204);
}

describe('volumes', () => {
  let daemon: TestDaemon;
  let docker: DockerCli;

  before(async () => {
    daemon = await startTestDaemon();
    docker = new DockerCli(daemon.socket);
    await eventually('a machine waits', 60_000, async () => (await figuresOf(daemon))('berth_pool_machines') >= 1);
  });

  after(async () => {
    for (const name of (await docker.ok(['volume', 'ls', '-q'])).split('\n').filter((line) => line !== ''))
      for (const { Id } of (await daemon.call('GET', '/containers/json?all=1')).body as { Id: string }[])
        if (name !== '') await daemon.call('DELETE', `/containers/${Id}?force=1`);
    await docker.ok(['volume', 'prune', '-a', '-f']);
    assert.deepEqual(readdirSync(join(daemon.stateDir, 'volumes')), [], 'no disk of a volume is left');
    assert.deepEqual(await daemon.dispose(), [], 'nothing is left behind');
  });

  const refused = async (words: RegExp, args: readonly string[]): Promise<void> => {
    const { code, stdout, stderr } = await docker.run(args);
    assert.notEqual(code, 0, stdout);
    assert.match(stderr, words);
  };

  test('docker volume create, ls, inspect and rm', async () => {
    assert.equal(await docker.ok(['volume', 'create', '--label', 'a=b', '--opt', 'size=1g', 'mine']), 'mine');
    assert.equal(await docker.ok(['volume', 'create', 'mine']), 'mine', 'making it again is no error');
    assert.match(await docker.ok(['volume', 'create']), /^[0-9a-f]{64}$/);
    assert.equal(await docker.ok(['volume', 'ls', '-q', '--filter', 'label=a=b']), 'mine');
    const [inspected] = JSON.parse(await docker.ok(['volume', 'inspect', 'mine'])) as Record<string, unknown>[];
    assert.equal(inspected?.['Driver'], 'local');
    assert.deepEqual(inspected?.['Options'], { size: '1g' });
    assert.deepEqual(inspected?.['Labels'], { a: 'b' });
    assert.ok(existsSync(String(inspected?.['Mountpoint'])));
    assert.match(await docker.ok(['system', 'df', '-v']), /mine +0 +[0-9.]+kB/);
    assert.equal(await docker.ok(['volume', 'rm', 'mine']), 'mine');
    assert.ok(!existsSync(String(inspected?.['Mountpoint'])));
    await refused(/no such volume/, ['volume', 'rm', 'mine']);
    await docker.ok(['volume', 'rm', '-f', 'mine']);
    await docker.ok(['volume', 'prune', '-f']);
    assert.equal(await docker.ok(['volume', 'ls', '-q']), '');
  });

  test('what a VM writes on a volume the next one reads, also when the first was removed as it ended', async () => {
    const write =
      'mkdir /data/sub && echo word >/data/sub/file && chown 7:8 /data/sub/file && chmod 640 /data/sub/file';
    await docker.ok(['run', '--rm', '-v', 'kept:/data', IMAGE, 'sh', '-c', write]);
    const read = 'cat /data/sub/file; stat -c "%u:%g %a" /data/sub/file; ls -a /data | tr "\\n" " "';
    const answer = await docker.ok(['run', '--rm', '-v', 'kept:/data', IMAGE, 'sh', '-c', read]);
    assert.equal(answer, 'word\n7:8 640\n. .. sub', 'no folder that a program could take for data');
    const mounts = await docker.ok([
      'run',
      '--rm',
      '--mount',
      'type=volume,src=kept,dst=/a/b',
      IMAGE,
      'grep',
      ' /a/b ',
      '/proc/mounts',
    ]);
    assert.match(mounts, /^\/dev\/vd[a-z] \/a\/b ext4 rw,/);
  });

  test('a volume has the size it was made with', async () => {
    await docker.ok(['volume', 'create', '--opt', 'size=300m', 'small']);
    const size = await docker.ok(['run', '--rm', '-v', 'small:/data', IMAGE, 'sh', '-c', 'df -m /data | tail -1']);
    const total = Number(size.split(/\s+/)[1]);
    assert.ok(total > 250 && total <= 300, size);
    await refused(/No space left on device/, [
      'run',
      '--rm',
      '-v',
      'small:/data',
      IMAGE,
      'sh',
      '-c',
      'dd if=/dev/zero of=/data/x bs=1M',
    ]);
    // Given back as it is freed.
    const [{ Mountpoint: path }] = JSON.parse(await docker.ok(['volume', 'inspect', 'small'])) as [
      { Mountpoint: string },
    ];
    await docker.ok(['run', '--rm', '-v', 'small:/data', IMAGE, 'sh', '-c', 'rm /data/x; sync; fstrim /data']);
    const { stdout } = await runProcess(['du', '-m', path]);
    assert.ok(Number(stdout.split('\t')[0]) < 40, stdout);
  });

  test('a new volume gets what the image has there, with owners and rights; nocopy, and one that has something, do not', async () => {
    const made = await docker.ok([
      'run',
      '--rm',
      '-v',
      'filled:/bin',
      IMAGE,
      'busybox',
      'sh',
      '-c',
      'ls /bin | wc -l; stat -c "%a %F" /bin/busybox /bin/sh',
    ]);
    const [count = '0', ...facts] = made.split('\n');
    assert.ok(Number(count) > 50, made);
    const plain = await docker.ok([
      'run',
      '--rm',
      IMAGE,
      'sh',
      '-c',
      'ls /bin | wc -l; stat -c "%a %F" /bin/busybox /bin/sh',
    ]);
    assert.deepEqual([count, ...facts], plain.split('\n'));
    assert.equal(
      await docker.ok([
        'run',
        '--rm',
        '-v',
        'bare:/etc:nocopy',
        IMAGE,
        'sh',
        '-c',
        'ls /etc | grep -v -e hosts -e hostname -e resolv.conf | wc -l',
      ]),
      '0',
    );
    await docker.ok(['run', '--rm', '-v', 'own:/mnt', IMAGE, 'touch', '/mnt/mine']);
    assert.equal(
      await docker.ok(['run', '--rm', '-v', 'own:/bin', IMAGE, '/proc/1/root/bin/mine']).catch(() => 'no'),
      'no',
    );
    assert.equal(await docker.ok(['run', '--rm', '-v', 'own:/srv', IMAGE, 'ls', '/srv']), 'mine');
  });

  test('read-only means it', async () => {
    await refused(/Read-only file system/, ['run', '--rm', '-v', 'kept:/data:ro', IMAGE, 'touch', '/data/x']);
    await refused(/Read-only file system/, [
      'run',
      '--rm',
      '--mount',
      'type=volume,src=kept,dst=/data,readonly',
      IMAGE,
      'touch',
      '/data/x',
    ]);
    const flags = [
      'run',
      '--rm',
      '--read-only',
      '-v',
      'kept:/data',
      IMAGE,
      'sh',
      '-c',
      'touch /data/y && ! touch /z 2>/dev/null && echo both',
    ];
    assert.equal(await docker.ok(flags), 'both');
  });

  test('one VM at a time: the second is told who has it, and of two at once one starts', async () => {
    await started(daemon, 'holder', 'shared:/data');
    assert.equal(await wayOf(daemon, 'holder'), 'pool');
    await docker.ok(['create', '--name', 'waiter', '-v', 'shared:/data', IMAGE, 'cat', '/data/note']);
    await refused(/volume shared is in use by VM holder/, ['start', 'waiter']);
    await refused(/volume is in use - \[[0-9a-f]{64}, [0-9a-f]{64}\]/, ['volume', 'rm', 'shared']);
    await sh(daemon, 'holder', 'echo hello >/data/note');
    await docker.ok(['stop', '-t', '1', 'holder']);
    assert.equal((await docker.run(['start', '-a', 'waiter'])).stdout, 'hello\n');
    await removeVm(daemon, 'waiter');
    for (const name of ['left', 'right']) await createVm(daemon, name, 'exec sleep 600', { Binds: ['shared:/data'] });
    const both = await Promise.all(['left', 'right'].map((name) => daemon.call('POST', `/containers/${name}/start`)));
    assert.deepEqual(both.map(({ status }) => status).sort(), [204, 409]);
    for (const name of ['left', 'right', 'holder']) await removeVm(daemon, name);
  });

  test('a VM that sleeps keeps its volume, and goes on with it', async () => {
    await started(daemon, 'sleeper', 'dreams:/data');
    await sh(daemon, 'sleeper', 'echo before >/data/log; sync');
    assert.equal((await daemon.call('POST', '/berth/v1/vms/sleeper/sleep')).status, 204);
    await createVm(daemon, 'thief', 'exec sleep 600', { Binds: ['dreams:/data'] });
    await refused(/in use by VM sleeper/, ['start', 'thief']);
    for (const _ of ['in a QEMU of its own', 'in the twin of one that waits']) {
      assert.equal(
        await sh(daemon, 'sleeper', 'echo again >>/data/log; cat /data/log | wc -l; dmesg | grep -c "I/O error"'),
        `${_ === 'in a QEMU of its own' ? 2 : 3}\n0\n`,
      );
      assert.equal((await daemon.call('POST', '/berth/v1/vms/sleeper/sleep')).status, 204);
    }
    await removeVm(daemon, 'sleeper');
    await startVm(daemon, 'thief');
    assert.equal(await sh(daemon, 'thief', 'cat /data/log'), 'before\nagain\nagain\n');
    await removeVm(daemon, 'thief');
  });

  test('what is synced outlives a QEMU that is killed, and a daemon that dies', async () => {
    await started(daemon, 'struck', 'hard:/data');
    await sh(daemon, 'struck', 'echo synced >/data/word; sync');
    await daemon.crash();
    await daemon.start();
    assert.equal(await sh(daemon, 'struck', 'cat /data/word'), 'synced\n');
    const info = await processInfo((await inspectVm(daemon, 'struck'))?.State.Pid ?? 0);
    assert.ok(info !== undefined);
    await killAndWait(info);
    await eventually(
      'it has ended',
      20_000,
      async () => (await inspectVm(daemon, 'struck'))?.State.Status === 'exited',
    );
    await removeVm(daemon, 'struck');
    assert.equal(await docker.ok(['run', '--rm', '-v', 'hard:/data', IMAGE, 'cat', '/data/word']), 'synced');
  });

  test('four volumes, one inside another, and a fifth is refused', async () => {
    const flags = ['va:/data', 'vb:/data/inner', 'vc:/srv/c', 'vd:/srv/d'].flatMap((bind) => ['-v', bind]);
    const script =
      'for p in /data /data/inner /srv/c /srv/d; do echo $p >$p/here; done; cat /data/here /data/inner/here; grep -c " ext4 " /proc/mounts';
    assert.equal(await docker.ok(['run', '--rm', ...flags, IMAGE, 'sh', '-c', script]), '/data\n/data/inner\n4');
    assert.equal(await docker.ok(['run', '--rm', '-v', 'vb:/x', IMAGE, 'cat', '/x/here']), '/data/inner');
    await refused(/5 volumes are asked for: a VM has at most 4/, ['create', ...flags, '-v', 've:/e', IMAGE]);
  });

  test('a VM with a volume is not forked and not kept: the words name the volume', async () => {
    await started(daemon, 'single', 'kept:/data');
    const fork = await daemon.call('POST', '/berth/v1/vms/single/fork');
    assert.equal(fork.status, 409);
    assert.match(JSON.stringify(fork.body), /has the volume kept and cannot be forked/);
    await refused(/has the volume kept and cannot be kept as a checkpoint/, ['checkpoint', 'create', 'single', 'c']);
    assert.equal(await sh(daemon, 'single', 'echo on'), 'on\n');
    await removeVm(daemon, 'single');
  });

  test('what cannot be had is refused in words, and makes no volume', async () => {
    const before = await docker.ok(['volume', 'ls', '-q']);
    const create = (...flags: string[]): string[] => ['create', ...flags, IMAGE, 'true'];
    await refused(/the host folder \/etc .* is not supported/, create('-v', '/etc:/data'));
    await refused(/mount path must be absolute/, create('-v', 'xx:data'));
    await refused(/destination can't be '\/'/, create('-v', 'xx:/'));
    await refused(/invalid mode: sideways/, create('-v', 'xx:/data:sideways'));
    await refused(/only "\[a-zA-Z0-9\]/, create('-v', 'x y:/data'));
    await refused(/Duplicate mount point: \/data/, create('-v', 'xx:/data', '-v', 'yy:/data/'));
    await refused(/in two places/, create('-v', 'xx:/data', '-v', 'xx:/other'));
    await refused(/a mount of type bind/, create('--mount', 'type=bind,src=/etc,dst=/data'));
    await refused(/plugin "nfs" not found/, ['volume', 'create', '-d', 'nfs', 'x']);
    await refused(/the volume option type/, ['volume', 'create', '--opt', 'type=nfs', 'x']);
    await refused(/it is from 64m to 16t/, ['volume', 'create', '--opt', 'size=1k', 'x']);
    await refused(/no name for a volume/, ['volume', 'create', '../x']);
    assert.equal(await docker.ok(['volume', 'ls', '-q']), before);
    await docker.ok(['create', '--name', 'first', '-v', 'known:/data', IMAGE, 'true']);
    const withKnown = await docker.ok(['volume', 'ls', '-q']);
    await refused(/already in use/, create('--name', 'first', '-v', 'fresh:/data', '-v', 'known:/other'));
    assert.equal(await docker.ok(['volume', 'ls', '-q']), withKnown, 'what was made for it is gone, and nothing else');
    await removeVm(daemon, 'first');
    await docker.ok(['volume', 'rm', 'known']);
    // Removed behind the back of a VM that wants it: the start says so.
    await docker.ok(['create', '--name', 'lost', '-v', 'gone:/data', IMAGE, 'true']);
    const [{ Mountpoint: path }] = JSON.parse(await docker.ok(['volume', 'inspect', 'gone'])) as [
      { Mountpoint: string },
    ];
    await runProcess(['rm', path]);
    await refused(/the disk of a volume is gone: .*gone\.img/, ['start', 'lost']);
    await removeVm(daemon, 'lost');
  });

  test('stats count what goes to a volume, and the fleet knows it as a disk of the VM that has it', async () => {
    await createVm(daemon, 'elder', 'exec sleep 600', { Binds: ['counted:/data'] });
    await started(daemon, 'writer', 'counted:/data');
    await sh(daemon, 'writer', 'dd if=/dev/zero of=/data/x bs=1M count=8 2>/dev/null; sync');
    const { body } = await daemon.call('GET', '/containers/writer/stats?stream=0&one-shot=1');
    type Counted = { blkio_stats: { io_service_bytes_recursive: { op: string; minor: number; value: number }[] } };
    const written = (body as Counted).blkio_stats.io_service_bytes_recursive.find(
      ({ op, minor }) => op === 'write' && minor === 32,
    );
    assert.ok((written?.value ?? 0) >= 8 * 2 ** 20, JSON.stringify(body));
    const disksOf = async (name: string): Promise<string[]> => {
      const answer = await daemon.call('GET', `/berth/v1/fleet/vms/${name}`);
      return ((answer.body as { facts?: { disks: { name: string }[] } }).facts?.disks ?? []).map((disk) => disk.name);
    };
    await eventually('it is the writer’s', 20_000, async () => (await disksOf('writer')).includes('counted'));
    assert.deepEqual(await disksOf('elder'), ['data']);
    await removeVm(daemon, 'writer');
    await eventually('and then the other’s', 20_000, async () => (await disksOf('elder')).includes('counted'));
    await removeVm(daemon, 'elder');
  });

  test('berth volume does the same', async () => {
    const berth = (...args: string[]) => runProcess([BERTH, '--socket', daemon.socket, 'volume', ...args]);
    assert.equal((await berth('create', '--opt', 'size=64m', 'ours')).stdout, 'ours\n');
    assert.match((await berth('ls')).stdout, /DRIVER +VOLUME NAME +SIZE +VMS\n(.*\n)*local +ours +[0-9.]+kB +0/);
    assert.equal(JSON.parse((await berth('inspect', 'ours')).stdout)[0].Name, 'ours');
    assert.equal((await berth('rm', 'ours')).stdout, 'ours\n');
    assert.equal((await berth('rm', 'ours')).exitCode, 1);
    assert.equal((await berth('prune')).exitCode, 125);
    assert.equal((await berth('fly')).exitCode, 125);
  });

  test('docker events tells of volumes, docker ps finds VMs by them', async () => {
    await docker.ok(['volume', 'create', 'told']);
    await docker.ok(['volume', 'rm', 'told']);
    const events = await docker.ok([
      'events',
      '--since',
      '1',
      '--until',
      String(Date.now() / 1000),
      '--filter',
      'type=volume',
      '--format',
      '{{.Action}} {{.Actor.ID}}',
    ]);
    assert.match(events, /create told\n(.*\n)*destroy told/);
    await docker.ok(['create', '--name', 'listed', '-v', 'kept:/data', IMAGE, 'true']);
    assert.equal(
      await docker.ok(['ps', '-a', '--filter', 'volume=kept', '--format', '{{.Names}} {{.Mounts}}']),
      'listed kept',
    );
    const mounts = JSON.parse(await docker.ok(['inspect', '-f', '{{json .Mounts}}', 'listed'])) as object[];
    assert.deepEqual(mounts, [
      {
        Type: 'volume',
        Name: 'kept',
        Source: 'kept',
        Destination: '/data',
        Driver: 'local',
        Mode: 'rw',
        RW: true,
        Propagation: '',
      },
    ]);
    await removeVm(daemon, 'listed');
  });
});

for (const [way, env] of [
  ['clone', { BERTH_POOL: 'off' }],
  ['boot', { BERTH_TEMPLATES: 'off' }],
] as const) {
  test(`a machine that came to be by ${way} has volumes as well`, async () => {
    const daemon = await startTestDaemon({ env });
    try {
      if (way === 'clone') await untilTemplate(daemon);
      for (const name of ['first', 'second']) {
        await started(daemon, name, 'v:/data');
        assert.equal(await wayOf(daemon, name), way);
        await sh(daemon, name, 'echo x >>/data/log');
        if (name === 'second') assert.equal(await sh(daemon, name, 'cat /data/log'), 'x\nx\n');
        assert.equal((await daemon.call('POST', `/containers/${name}/stop?t=1`)).status, 204);
      }
    } finally {
      assert.deepEqual(await daemon.dispose(), []);
    }
  });
}
