/** Checkpoints: a VM put away as it is, and going on from there, here and elsewhere; with the real docker CLI and berth's own. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { DockerCli } from '../harness/docker-cli.ts';
import { createVm, eventually, execIn, inspectVm, logsOf, startVm } from '../harness/vm-client.ts';

const COUNT = 'i=0; while true; do echo "line $i"; i=$((i+1)); usleep 20000; done';
const CHECKOUT = new URL('../..', import.meta.url).pathname;

describe('checkpoints', () => {
  let daemon: TestDaemon;
  let docker: DockerCli;
  let scratch: string;

  before(async () => {
    daemon = await startTestDaemon();
    docker = new DockerCli(daemon.socket);
    scratch = mkdtempSync(join(tmpdir(), 'checkpoint-test-'));
  });

  afterEach(async () => {
    const { body } = await daemon.call('GET', '/containers/json?all=1');
    for (const { Id } of body as { Id: string }[]) await daemon.call('DELETE', `/containers/${Id}?force=1`);
  });

  after(async () => {
    rmSync(scratch, { recursive: true, force: true });
    assert.deepEqual(await daemon.dispose(), [], 'nothing is left behind');
  });

  const run = async (script: string, name: string): Promise<void> => {
    await createVm(daemon, name, script);
    await startVm(daemon, name);
  };
  const ask = async (vm: string, script: string, on: TestDaemon = daemon): Promise<string> =>
    (await execIn(on, vm, ['sh', '-c', script])).output.trim();
  const lines = async (vm: string, on: TestDaemon = daemon): Promise<string[]> =>
    (await logsOf(on, vm)).split('\n').slice(0, -1);
  const statusOf = async (vm: string, on: TestDaemon = daemon) => (await inspectVm(on, vm))?.State.Status;
  const refused = async (status: number, words: RegExp, method: string, path: string, body?: unknown) => {
    const answer = await daemon.call(method, path, body);
    assert.equal(answer.status, status, JSON.stringify(answer.body));
    assert.match((answer.body as { message: string }).message, words);
  };
  const berth = (on: TestDaemon, ...args: string[]) => {
    const words = ['--socket', on.socket, '--state-dir', on.stateDir, '--run-dir', on.runDir, ...args];
    const options = { encoding: 'utf8' as const, timeout: 60_000, killSignal: 'SIGKILL' as const };
    const { status, stdout, stderr } = spawnSync(join(CHECKOUT, 'berth'), words, options);
    return { status, stdout, stderr };
  };
  const folderOf = async (vm: string, checkpoint: string): Promise<string> =>
    join(daemon.stateDir, 'vms', (await inspectVm(daemon, vm))?.Id ?? '', 'checkpoints', checkpoint);

  test('docker checkpoint create, ls, rm and docker start --checkpoint', async () => {
    await run(`echo kept >/file; ${COUNT}`, 'counter');
    await eventually('it counts', 20_000, async () => (await lines('counter')).length > 20);
    const before = await inspectVm(daemon, 'counter');
    const macBefore = await ask('counter', 'cat /sys/class/net/eth0/address');
    assert.equal(await docker.ok(['checkpoint', 'create', 'counter', 'first']), 'first');
    assert.equal(await statusOf('counter'), 'exited');
    assert.equal((await inspectVm(daemon, 'counter'))?.State.ExitCode, 137);
    assert.match(await docker.ok(['checkpoint', 'ls', 'counter']), /^CHECKPOINT NAME\s+first$/);
    const logged = await lines('counter');
    assert.equal(await docker.ok(['start', '--checkpoint', 'first', 'counter']), '');
    assert.equal(await statusOf('counter'), 'running');
    await eventually('it counts on', 20_000, async () => (await lines('counter')).length > logged.length + 20);
    for (const [index, line] of (await lines('counter')).entries())
      assert.equal(line, `line ${index}`, 'without a gap');
    const again = await inspectVm(daemon, 'counter');
    assert.equal(again?.NetworkSettings.IPAddress, before?.NetworkSettings.IPAddress, 'its address was free');
    const seen = (await ask('counter', 'cat /file /sys/class/net/eth0/address /etc/hostname; date +%s')).split('\n');
    assert.deepEqual(seen.slice(0, 3), ['kept', macBefore, before?.Id.slice(0, 12)]);
    assert.ok(Math.abs(Number(seen[3]) - Date.now() / 1000) < 3, 'the clock is right');
    await docker.ok(['checkpoint', 'rm', 'counter', 'first']);
    assert.equal(await docker.ok(['checkpoint', 'ls', 'counter']), 'CHECKPOINT NAME');
  });

  test('left running, a VM goes on; restored, memory and disk are what they were', async () => {
    await run(`echo one >/file; echo one >/dev/shm/word; ${COUNT}`, 'keeper');
    await eventually('it counts', 20_000, async () => (await lines('keeper')).length > 20);
    await docker.ok(['checkpoint', 'create', '--leave-running', 'keeper', 'then']);
    const at = (await lines('keeper')).length;
    assert.equal(await statusOf('keeper'), 'running');
    assert.equal(await ask('keeper', 'echo two >/file; echo two >/dev/shm/word; sync; cat /file'), 'two');
    await eventually('it goes on', 20_000, async () => (await lines('keeper')).length > at + 20);
    await daemon.call('POST', '/containers/keeper/kill');
    await eventually('it has ended', 10_000, async () => (await statusOf('keeper')) === 'exited');
    for (let round = 0; round < 2; round += 1) {
      assert.equal(berth(daemon, 'checkpoint', 'restore', 'keeper', 'then').stdout, 'keeper\n');
      assert.equal(await ask('keeper', 'cat /file /dev/shm/word'), 'one\none');
      await ask('keeper', 'echo three >/file; sync');
      await daemon.call('POST', '/containers/keeper/stop?t=0');
    }
    await startVm(daemon, 'keeper');
    await eventually(
      'an ordinary start runs the command again',
      20_000,
      async () => (await ask('keeper', 'cat /file')) === 'one',
    );
  });

  test('a checkpoint outlives its daemon; another address is given where its own is taken', async () => {
    await run('echo word >/dev/shm/word; sleep 100000', 'mover');
    const before = (await inspectVm(daemon, 'mover'))?.NetworkSettings.IPAddress;
    assert.equal(berth(daemon, 'checkpoint', 'create', 'mover', 'here').status, 0);
    await daemon.restart();
    await run('sleep 100000', 'squatter');
    assert.equal((await inspectVm(daemon, 'squatter'))?.NetworkSettings.IPAddress, before);
    assert.equal((await daemon.call('POST', '/containers/mover/start?checkpoint=here')).status, 204);
    const now = (await inspectVm(daemon, 'mover'))?.NetworkSettings.IPAddress ?? '';
    assert.notEqual(now, before);
    assert.equal(await ask('mover', `ip -4 addr show dev eth0 | grep -c 'inet ${now}/'; cat /dev/shm/word`), '1\nword');
  });

  test('exported into a file, a VM goes on under another daemon; where its image is missing, the image is named', async () => {
    await run(`echo on-disk >/file; echo in-memory >/dev/shm/word; ${COUNT}`, 'traveller');
    await eventually('it counts', 20_000, async () => (await lines('traveller')).length > 20);
    assert.equal(berth(daemon, 'checkpoint', 'create', '--leave-running', 'traveller', 'trip').status, 0);
    const file = join(scratch, 'trip.checkpoint');
    assert.deepEqual(berth(daemon, 'checkpoint', 'export', 'traveller', 'trip', file), {
      status: 0,
      stdout: '',
      stderr: '',
    });
    assert.ok(statSync(file).size < 200 * 1024 * 1024, 'holes are not stored');
    assert.match(
      spawnSync('tar', ['-tf', file], { encoding: 'utf8' }).stdout,
      /^manifest.json\nstate\nmemory.blocks\ndata.blocks\n$/,
    );
    const other = await startTestDaemon();
    try {
      assert.equal(berth(other, 'checkpoint', 'import', file, '--name', 'arrived').stdout, 'arrived\n');
      assert.equal(berth(other, 'checkpoint', 'ls', 'arrived').stdout, 'imported\n');
      assert.equal(berth(other, 'checkpoint', 'restore', 'arrived', 'imported').stdout, 'arrived\n');
      assert.equal(await ask('arrived', 'cat /file /dev/shm/word', other), 'on-disk\nin-memory');
      await eventually('it counts', 20_000, async () => (await lines('arrived', other)).length > 20);
      const own = await lines('arrived', other);
      const first = Number(own[0]?.slice('line '.length));
      assert.ok(first > 20);
      for (const [index, line] of own.entries()) assert.equal(line, `line ${first + index}`);
      assert.equal(await ask('arrived', 'hostname', other), await ask('traveller', 'hostname'), 'it is the same VM');
      for (const image of ((await other.call('GET', '/images/json')).body as { Id: string }[]) ?? [])
        await other
          .call('DELETE', `/containers/arrived?force=1`)
          .then(() => other.call('DELETE', `/images/${image.Id}?force=1`));
      const missing = berth(other, 'checkpoint', 'import', file);
      assert.equal(missing.status, 1);
      assert.match(
        missing.stderr,
        /image berth\/busybox\S* \(sha256:[0-9a-f]{64}\) is not here.*berth pull berth\/busybox/s,
      );
      assert.equal(((await other.call('GET', '/containers/json?all=1')).body as unknown[]).length, 0);
    } finally {
      assert.deepEqual(await other.dispose(), []);
    }
  });

  test('a damaged checkpoint is refused with what is wrong, and its VM kept', async () => {
    await run('echo fine >/file; sleep 100000', 'victim');
    await docker.ok(['checkpoint', 'create', 'victim', 'good']);
    const folder = await folderOf('victim', 'good');
    const damages: [string, RegExp, (path: string) => void][] = [
      ['memory', /memory is not what was saved/, (path) => poke(path, 40 * 1024 * 1024)],
      ['memory', /memory has 4096 bytes, not 268435456/, (path) => truncateSync(path, 4096)],
      ['state', /state is not what was saved/, (path) => poke(path, 1000)],
      ['state', /state is not what was saved/, (path) => truncateSync(path, 10)],
      ['data.img', /data.img is not what was saved/, (path) => poke(path, 4096)],
      ['data.img', /no such file/, (path) => rmSync(path)],
      ['manifest.json', /manifest is damaged: it is not JSON/, (path) => truncateSync(path, 20)],
      [
        'manifest.json',
        /manifest is damaged: spec.vcpus/,
        (path) => edit(path, (one) => ({ ...one, spec: { ...one.spec, vcpus: 0 } })),
      ],
      [
        'manifest.json',
        /has version 2; this berth reads version 1/,
        (path) => edit(path, (one) => ({ ...one, version: 2 })),
      ],
      [
        'manifest.json',
        /made with QEMU 6.6.6; here it is [0-9.]+/,
        (path) => edit(path, (one) => need(one, 'qemu', '6.6.6')),
      ],
      [
        'manifest.json',
        /made with guest kernel 5.4; here it is 6/,
        (path) => edit(path, (one) => need(one, 'guestKernel', '5.4')),
      ],
      [
        'manifest.json',
        /made with machine layout 0+; here it is/,
        (path) => edit(path, (one) => need(one, 'machine', '0'.repeat(64))),
      ],
    ];
    for (const [name, words, damage] of damages) {
      const path = join(folder, name);
      spawnSync('cp', ['--sparse=always', path, join(scratch, 'kept')]);
      damage(path);
      const answer = await daemon.call('POST', '/containers/victim/start?checkpoint=good');
      assert.ok(answer.status >= 400, `${words} was not noticed`);
      assert.match((answer.body as { message: string }).message, words);
      assert.equal(await statusOf('victim'), 'exited');
      spawnSync('cp', ['--sparse=always', join(scratch, 'kept'), path]);
    }
    assert.equal((await daemon.call('POST', '/containers/victim/start?checkpoint=good')).status, 204);
    assert.equal(await ask('victim', 'cat /file'), 'fine');
  });

  test('a hostile archive is refused and leaves nothing', async () => {
    await run('sleep 100000', 'source');
    await docker.ok(['checkpoint', 'create', '--leave-running', 'source', 'c']);
    const good = join(scratch, 'good.checkpoint');
    assert.equal(berth(daemon, 'checkpoint', 'export', 'source', 'c', good).status, 0);
    const bytes = readFileSync(good);
    const cases: [string, RegExp, (copy: Buffer) => Buffer][] = [
      ['empty', /cut short/, () => Buffer.alloc(0)],
      ['noise', /not such an archive/, (copy) => Buffer.alloc(copy.length, 7)],
      ['cut in the memory', /cut short/, (copy) => copy.subarray(0, copy.length / 2)],
      [
        'a path',
        /"\.\.\/\.\.\/etc\/passwd" stands where manifest.json was due/,
        (copy) => renamed(copy, '../../etc/passwd'),
      ],
      ['another byte of memory', /memory.blocks is (damaged|not what)/, (copy) => flipped(copy, copy.length / 2)],
      ['another byte of the manifest', /manifest|damaged/, (copy) => flipped(copy, 530)],
    ];
    for (const [name, words, change] of cases) {
      const file = join(scratch, 'bad.checkpoint');
      writeFileSync(file, change(Buffer.from(bytes)));
      const { status, stderr } = berth(daemon, 'checkpoint', 'import', file, '--name', 'bad');
      assert.equal(status, 1, name);
      assert.match(stderr, words, name);
    }
    assert.equal(((await daemon.call('GET', '/containers/json?all=1')).body as unknown[]).length, 1);
    assert.equal(readdirSync(join(daemon.stateDir, 'vms')).length, 1, 'no folder is left');
    copyFileSync(good, join(scratch, 'again.checkpoint'));
    assert.equal(berth(daemon, 'checkpoint', 'import', join(scratch, 'again.checkpoint'), '--name', 'fine').status, 0);
    assert.equal(berth(daemon, 'checkpoint', 'import', join(scratch, 'nothing')).status, 1);
  });

  test('what cannot be done is refused in words', async () => {
    await createVm(daemon, 'idle', COUNT);
    const create = (name: string, more: object = {}) => ({ CheckpointID: name, Exit: false, ...more });
    await refused(409, /not running/, 'POST', '/containers/idle/checkpoints', create('a'));
    await startVm(daemon, 'idle');
    await refused(400, /Invalid checkpoint name \(\.\.\/x\)/, 'POST', '/containers/idle/checkpoints', create('../x'));
    await refused(400, /CheckpointID/, 'POST', '/containers/idle/checkpoints', {});
    await refused(
      501,
      /folder of one's own/,
      'POST',
      '/containers/idle/checkpoints',
      create('a', { CheckpointDir: '/x' }),
    );
    assert.equal((await daemon.call('POST', '/containers/idle/checkpoints', create('a'))).status, 201);
    await refused(409, /checkpoint a exists already/, 'POST', '/containers/idle/checkpoints', create('a'));
    await refused(409, /idle is running.*berth stop idle/, 'POST', '/containers/idle/start?checkpoint=a');
    await refused(404, /checkpoint b does not exist/, 'POST', '/containers/idle/start?checkpoint=b');
    await refused(404, /checkpoint b does not exist/, 'DELETE', '/containers/idle/checkpoints/b');
    await createVm(daemon, 'guest', COUNT, { AutoRemove: true });
    await startVm(daemon, 'guest');
    await refused(
      409,
      /goes away when it ends.*--leave-running/,
      'POST',
      '/containers/guest/checkpoints',
      create('a', { Exit: true }),
    );
    assert.equal(await statusOf('guest'), 'running');
  });

  test('a daemon killed while a checkpoint is made or restored leaves a VM that lasts', async () => {
    await run(COUNT, 'rock');
    for (const delayMs of [5, 40, 100, 250, 500]) {
      const making = daemon
        .call('POST', '/containers/rock/checkpoints', { CheckpointID: `c${delayMs}`, Exit: false })
        .catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      await daemon.crash();
      await making;
      await daemon.start();
      assert.equal(await statusOf('rock'), 'running', `after ${delayMs} ms`);
      assert.equal(await ask('rock', 'echo hi'), 'hi');
    }
    assert.equal(
      (await daemon.call('POST', '/containers/rock/checkpoints', { CheckpointID: 'last', Exit: true })).status,
      201,
    );
    const names = readdirSync(await folderOf('rock', '.'));
    assert.deepEqual(
      names.filter((name) => name.startsWith('.')),
      [],
      'what was half made is gone',
    );
    for (const delayMs of [5, 60, 120, 200, 300]) {
      const starting = daemon.call('POST', '/containers/rock/start?checkpoint=last').catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      await daemon.crash();
      await starting;
      await daemon.start();
      const state = await eventually('it is in a state that lasts', 20_000, async () => {
        const seen = await statusOf('rock');
        return (seen === 'running' || seen === 'exited') && seen;
      });
      if (state === 'running') assert.equal(await ask('rock', 'echo hi'), 'hi');
      await daemon.call('POST', '/containers/rock/kill');
      await eventually('it has ended', 20_000, async () => (await statusOf('rock')) === 'exited');
    }
    assert.equal((await daemon.call('POST', '/containers/rock/start?checkpoint=last')).status, 204);
    assert.equal(await ask('rock', 'echo hi'), 'hi');
  });
});

type Manifest = { spec: object; needs: object };

function edit(path: string, change: (manifest: Manifest) => object): void {
  writeFileSync(path, JSON.stringify(change(JSON.parse(readFileSync(path, 'utf8')) as Manifest)));
}

function need(manifest: Manifest, name: string, value: string): object {
  return { ...manifest, needs: { ...manifest.needs, [name]: value } };
}

function poke(path: string, at: number): void {
  const descriptor = openSync(path, 'r+');
  writeSync(descriptor, Buffer.from('!poked!'), 0, 7, at);
}

function flipped(bytes: Buffer, at: number): Buffer {
  const place = Math.floor(at);
  bytes[place] = (bytes[place] ?? 0) ^ 0x01;
  return bytes;
}

/** Under another name, with the checksum that belongs to it. */
function renamed(bytes: Buffer, name: string): Buffer {
  bytes.fill(0, 0, 100);
  bytes.write(name, 0);
  bytes.write('        ', 148);
  const sum = bytes.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return bytes;
}
