/** VMs that sleep: told to or idle, woken by everything that needs them, through crashes and damaged files. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { DockerCli } from '../harness/docker-cli.ts';
import { createVm, eventually, execIn, inspectVm, startVm } from '../harness/vm-client.ts';

/** Answers each connection with a word that was drawn when the process started and lives in its memory alone. */
const SERVER = 'exec nc -ll -p 80 -e echo $(cat /proc/sys/kernel/random/uuid)';

let daemon: TestDaemon;
let docker: DockerCli;

before(async () => {
  daemon = await startTestDaemon();
  docker = new DockerCli(daemon.socket);
});

after(async () => assert.deepEqual(await daemon.dispose(), []));

const act = (name: string, action: 'sleep' | 'wake') => daemon.call('POST', `/berth/v1/vms/${name}/${action}`);

async function putToSleep(name: string): Promise<void> {
  const { status, body } = await act(name, 'sleep');
  assert.equal(status, 204, JSON.stringify(body));
}

async function stateOf(name: string): Promise<string> {
  const { body } = await daemon.call('GET', `/containers/${name}/json`);
  return (body as { Berth: { State: string } }).Berth.State;
}

async function portOf(name: string): Promise<number> {
  const { body } = await daemon.call('GET', `/containers/${name}/json`);
  type Ports = Record<string, { HostPort: string }[] | null>;
  const ports = (body as { NetworkSettings: { Ports: Ports } }).NetworkSettings.Ports;
  return Number(ports['80/tcp']?.[0]?.HostPort);
}

/** The server's first line; rejects when the connection is refused, cut or says nothing in time. */
function ask(port: number, deadlineMs = 20_000): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    socket.setTimeout(deadlineMs, () => socket.destroy(new Error('no answer')));
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('closed without an answer')));
    socket.once('data', (chunk) => {
      resolve(chunk.toString().trim());
      socket.destroy();
    });
  });
}

async function serving(name: string, more: object = {}): Promise<number> {
  await createVm(daemon, name, SERVER, { PortBindings: { '80/tcp': [{ HostPort: '' }] }, ...more });
  await startVm(daemon, name);
  const port = await portOf(name);
  await eventually('it serves', 20_000, () => ask(port).catch(() => undefined));
  return port;
}

test('asleep a VM has no process; a connection to its port wakes it and is served, memory and all', async () => {
  const port = await serving('web');
  const word = await ask(port);
  const pid = (await inspectVm(daemon, 'web'))?.State.Pid ?? 0;
  await putToSleep('web');
  assert.ok(!existsSync(`/proc/${pid}/maps`) || readFileSync(`/proc/${pid}/maps`, 'utf8') === '', 'QEMU is gone');
  assert.equal(await stateOf('web'), 'asleep');
  assert.match(await docker.ok(['ps', '--format', '{{.Status}}']), /^Up .* \(asleep\)$/m);
  assert.equal((await act('web', 'sleep')).status, 304);
  assert.equal(await ask(port), word, 'the process went on where it was');
  assert.equal(await stateOf('web'), 'running');
  await eventually('its files are gone', 10_000, async () => !existsSync(asleepFolder(await idOf('web'))));
  assert.equal(await ask(port), word, 'later connections go straight to it');
});

async function idOf(name: string): Promise<string> {
  return (await inspectVm(daemon, name))?.Id ?? '';
}

function asleepFolder(id: string): string {
  return `${daemon.stateDir}/vms/${id}/asleep`;
}

test('exec, top, stdin and stop wake it; logs, inspect and a list do not; its clock is right', async () => {
  await putToSleep('web');
  await docker.ok(['logs', 'web']);
  await docker.ok(['inspect', 'web']);
  await docker.ok(['ps', '-a']);
  assert.equal(await stateOf('web'), 'asleep');
  const seconds = Number((await execIn(daemon, 'web', ['date', '+%s'])).output);
  assert.ok(Math.abs(seconds - Date.now() / 1000) < 2, `the guest's clock says ${seconds}`);
  await putToSleep('web');
  assert.match(await docker.ok(['top', 'web']), /nc -ll/);
  await putToSleep('web');
  await docker.ok(['stop', '-t', '1', 'web']);
  assert.equal(await stateOf('web'), 'exited');
  await docker.ok(['start', 'web']);
  await putToSleep('web');
  await docker.ok(['restart', '-t', '1', 'web']);
  assert.equal(await stateOf('web'), 'running');
  await putToSleep('web');
  await docker.ok(['kill', 'web']);
  assert.equal(await stateOf('web'), 'exited');
  await docker.ok(['start', 'web']);
  await putToSleep('web');
  await docker.ok(['rm', '-f', 'web']);
  assert.equal(await inspectVm(daemon, 'web'), undefined);
});

test('what cannot sleep says why', async () => {
  await createVm(daemon, 'plain', 'sleep 600');
  const notRunning = await act('plain', 'sleep');
  assert.equal(notRunning.status, 409);
  assert.match(JSON.stringify(notRunning.body), /is not running/);
  await startVm(daemon, 'plain');
  const { body: exec } = await daemon.call('POST', '/containers/plain/exec', { Cmd: ['sleep', '600'] });
  await daemon.call('POST', `/exec/${(exec as { Id: string }).Id}/start`, { Detach: true });
  const busy = await act('plain', 'sleep');
  assert.equal(busy.status, 409);
  assert.match(JSON.stringify(busy.body), /runs a command of \\"exec\\"/);
  await daemon.call('POST', '/containers/plain/pause');
  assert.match(JSON.stringify((await act('plain', 'sleep')).body), /is paused/);
  assert.equal((await act('nobody', 'sleep')).status, 404);
  const refused = await docker.run(['create', '-l', 'berth.sleep-after=soon', 'berth/busybox', 'true']);
  assert.match(refused.stderr, /berth\.sleep-after=soon is not a time such as 30s/);
  await docker.ok(['rm', '-f', 'plain']);
});

test('an idle VM falls asleep by itself, one that works or has a connection does not', async () => {
  const create = (name: string, command: string) =>
    docker.ok([
      'run',
      '-d',
      '--name',
      name,
      '-l',
      'berth.sleep-after=2s',
      '-p',
      '80',
      'berth/busybox',
      'sh',
      '-c',
      command,
    ]);
  await create('lazy', SERVER);
  await create('worker', 'while :; do :; done');
  await create('talker', 'nc -l -p 80 -e sh -c "echo hello; sleep 600"');
  const port = await portOf('talker');
  const socket = await eventually('the talker talks', 20_000, () => {
    const trying = connect(port, '127.0.0.1');
    return new Promise<Socket | undefined>((resolve) => {
      trying.once('error', () => resolve(undefined));
      trying.once('close', () => resolve(undefined));
      trying.once('data', () => resolve(trying));
    });
  });
  try {
    const word = await eventually('the idle one serves', 20_000, async () =>
      ask(await portOf('lazy')).catch(() => undefined),
    );
    await eventually('the idle one sleeps', 30_000, async () => (await stateOf('lazy')) === 'asleep');
    assert.equal(await ask(await portOf('lazy')), word);
    await eventually('it sleeps again', 30_000, async () => (await stateOf('lazy')) === 'asleep');
    assert.equal(await stateOf('worker'), 'running');
    assert.equal(await stateOf('talker'), 'running');
  } finally {
    socket.destroy();
  }
  for (const name of ['lazy', 'worker', 'talker']) await docker.ok(['rm', '-f', name]);
});

test('a sleeper whose files are damaged or gone says so, is kept, and is never started anew in silence', async () => {
  const damages: Record<string, (folder: string) => void> = {
    'memory cut': (folder) => truncateSync(`${folder}/memory`, 4096),
    'memory gone': (folder) => rmSync(`${folder}/memory`),
    'state changed': (folder) => writeFileSync(`${folder}/state`, 'nonsense'),
    'all gone': (folder) => rmSync(folder, { recursive: true }),
  };
  for (const [what, damage] of Object.entries(damages)) {
    const port = await serving('lost');
    await execIn(daemon, 'lost', ['sh', '-c', 'echo precious > /kept; sync']);
    await putToSleep('lost');
    damage(asleepFolder(await idOf('lost')));
    await assert.rejects(ask(port), `${what}: the connection ends`);
    const { status, body } = await act('lost', 'wake');
    assert.equal(status, 500, what);
    assert.match(JSON.stringify(body), /cannot be woken: .*(bytes|not what was saved|no such file)/, what);
    assert.equal(await stateOf('lost'), 'asleep');
    assert.match((await inspectVm(daemon, 'lost'))?.State.Error ?? '', /could not be woken/);
    await docker.ok(['kill', 'lost']);
    await docker.ok(['start', 'lost']);
    assert.equal((await execIn(daemon, 'lost', ['cat', '/kept'])).output, 'precious\n', 'its disk is untouched');
    await docker.ok(['rm', '-f', 'lost']);
  }
});

test('a daemon killed while VMs sleep, fall asleep and wake loses none and starts none anew', async () => {
  const port = await serving('web');
  const word = await ask(port);
  const next = async (why: string): Promise<void> => assert.equal(await ask(port), word, why);
  await putToSleep('web');
  await daemon.crash();
  await daemon.start();
  assert.equal(await stateOf('web'), 'asleep');
  await next('killed while it slept');
  for (const delayMs of [0, 3, 10, 25, 60, 120, 250]) {
    const falling = act('web', 'sleep').catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    await daemon.crash();
    await falling;
    await daemon.start();
    await next(`killed ${delayMs} ms after it was to fall asleep`);
    await eventually('it sleeps', 20_000, async () => [204, 304].includes((await act('web', 'sleep')).status));
    const waking = act('web', 'wake').catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    await daemon.crash();
    await waking;
    await daemon.start();
    await next(`killed ${delayMs} ms after it was to wake`);
  }
  await docker.ok(['rm', '-f', 'web']);
  assert.deepEqual(await daemon.leaks(), []);
});

test('a VM that ends takes the connections with it that berthd carries for it', async () => {
  const port = await serving('cut');
  await docker.ok(['rm', '-f', 'cut']);
  await createVm(daemon, 'cut', 'exec nc -ll -p 80 -e sh -c "echo here; sleep 600"', {
    PortBindings: { '80/tcp': [{ HostPort: String(port) }] },
  });
  await startVm(daemon, 'cut');
  await eventually('it serves', 20_000, () => ask(port).catch(() => undefined));
  await putToSleep('cut');
  const socket = connect(port, '127.0.0.1');
  await new Promise((resolve) => socket.once('data', resolve));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  await docker.ok(['rm', '-f', 'cut']);
  await closed;
});

test('a storm of connections to 200 sleepers wakes each once and serves all', async () => {
  const names = Array.from({ length: 200 }, (_, index) => `s${index}`);
  const words = new Map<string, string>();
  await atOnce(4, names, async (name) => {
    words.set(name, await ask(await serving(name, { Memory: 96 * 2 ** 20 })));
  });
  assert.equal(new Set(words.values()).size, names.length, 'each has a word of its own');
  await atOnce(4, names, putToSleep);
  const since = (Date.now() / 1000).toFixed(3);
  await Promise.all(
    names.flatMap((name) =>
      // Its backlog is two connections long: more would be dropped by the guest and asked for again.
      Array.from({ length: 2 }, async () => assert.equal(await ask(await portOf(name), 240_000), words.get(name))),
    ),
  );
  for (const name of names) assert.equal(await stateOf(name), 'running');
  const filters = JSON.stringify({ event: ['wake'] });
  const until = (Date.now() / 1000).toFixed(3);
  const { body } = await daemon.call('GET', `/events?since=${since}&until=${until}&filters=${filters}`);
  assert.equal(String(body).trim().split('\n').length, names.length, 'and none twice');
  await atOnce(4, names, (name) => docker.ok(['rm', '-f', name]));
});

async function atOnce(
  count: number,
  names: readonly string[],
  work: (name: string) => Promise<unknown>,
): Promise<void> {
  const left = [...names];
  const next = async (): Promise<void> => {
    for (let name = left.pop(); name !== undefined; name = left.pop()) await work(name);
  };
  await Promise.all(Array.from({ length: count }, next));
}
