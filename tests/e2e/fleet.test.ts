/** Sources and the fleet through the shipped command line and daemon, against real libvirtds. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '#harness';
import { runProcess } from '#platform';
import { type RunningLibvirt, startLibvirt, writeDomain } from '../harness/libvirt.ts';
import { createVm, eventually, startVm } from '../harness/vm-client.ts';

const BERTH = new URL('../../berth', import.meta.url).pathname;
const TEST = 'test:///default';
const DEADLINE_MS = 15_000;

let daemon: TestDaemon;
let libvirt: RunningLibvirt;
let folder: string;

interface Vm {
  readonly id: string;
  readonly name: string;
  readonly isStale: boolean;
  readonly facts: { readonly powerState: string; readonly nativeId: string };
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'berth-fleet-'));
  [daemon, libvirt] = await Promise.all([startTestDaemon({ env: { BERTH_POOL: 'off' } }), startLibvirt()]);
});

after(async () => {
  await libvirt.dispose();
  const leaks = await daemon.dispose();
  rmSync(folder, { recursive: true, force: true });
  assert.deepEqual(leaks, []);
});

const url = (connect = TEST): string => `${connect.replace('://', '+unix://')}?socket=${libvirt.socket}`;

async function berth(...words: string[]) {
  return await runProcess([BERTH, '--socket', daemon.socket, ...words], {
    env: { ...process.env, TZ: 'UTC' } as Record<string, string>,
  });
}

async function said(...words: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await berth(...words);
  assert.equal(exitCode, 0, `berth ${words.join(' ')}: ${stderr}`);
  return stdout;
}

async function rows<T>(...words: string[]): Promise<T[]> {
  const text = await said(...words, '--json');
  return text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as T]));
}

const vms = (): Promise<Vm[]> => rows<Vm>('fleet', 'ls');
const named = async (name: string): Promise<Vm | undefined> => (await vms()).find((vm) => vm.name === name);

test('a source is added, looked at, and its VMs are in the list with their facts', async () => {
  assert.equal(await said('source', 'add', 'lab', url(), '--allow-power'), 'lab\n');
  await eventually('the VM of the test driver is known', DEADLINE_MS, () => named('test'));
  assert.match(await said('source', 'ls'), /^lab +libvirt +up +.* ago +power +libvirt TEST 9\.0\.0/m);
  assert.match(await said('fleet', 'ls'), /^v1 +test +running +lab +vm +2 +8GiB +- +192\.168\.122\.3 +simulated/m);
  assert.match(
    await said('fleet', 'tree'),
    /^lab {2}libvirt, up\n {2}\S+ {2}16 threads, 3GiB, TEST, 1 VMs\n {4}test {2}v1, running/m,
  );
  assert.match(await said('source', 'test', 'lab'), /ok +inventory +1 hosts, 1 VMs\nok +events/);
  const shown = JSON.parse(await said('fleet', 'show', 'test')) as { sightings: { source: string }[] };
  assert.deepEqual(
    shown.sightings.map((one) => one.source),
    ['lab'],
  );
});

test('a change made with virsh is in the inventory within 200 ms', async () => {
  await libvirt.virsh(TEST, 'define', writeDomain(libvirt, { name: 'quick', type: 'test' }));
  await eventually('quick is known', DEADLINE_MS, () => named('quick'));
  const tookMs: number[] = [];
  for (const [verb, state] of [
    ['start', 'running'],
    ['suspend', 'paused'],
    ['resume', 'running'],
    ['destroy', 'off'],
  ] as const) {
    const done = libvirt.virsh(TEST, verb, 'quick').then(() => performance.now());
    let seen = 0;
    await eventually(`quick is ${state}`, DEADLINE_MS, async () => {
      const { body } = await daemon.call('GET', '/berth/v1/fleet/vms/quick');
      seen = performance.now();
      return (body as Vm).facts.powerState === state;
    });
    tookMs.push(seen - (await done));
  }
  assert.ok(
    Math.max(...tookMs) <= 200,
    `after virsh had returned it took ${tookMs.map((ms) => ms.toFixed(0)).join(', ')} ms`,
  );
});

test('history, the estate at a time and drift tell what was done with virsh, to the instant', async () => {
  const history = await rows<{
    powerState: string;
    opened: { atMs: number; how: string };
    closed: { atMs: number } | null;
  }>('fleet', 'history', 'quick');
  assert.deepEqual(
    history.map((one) => one.powerState),
    ['off', 'running', 'paused', 'running', 'off'],
  );
  assert.ok(history.slice(1).every((one) => one.opened.how === 'event'));
  for (const [at, one] of history.entries())
    assert.equal(one.closed?.atMs ?? null, history[at + 1]?.opened.atMs ?? null);
  const paused = history[2];
  const at = await rows<{ name: string; powerState: string }>('fleet', 'at', String(paused?.opened.atMs));
  assert.deepEqual(at.map((one) => [one.name, one.powerState]).sort(), [
    ['quick', 'paused'],
    ['test', 'running'],
  ]);
  const drift = await rows<{ field: string; after: string }>('fleet', 'drift');
  assert.deepEqual(
    drift.filter((one) => one.field === 'powerState').map((one) => one.after),
    ['running', 'paused', 'running', 'off'],
  );
  assert.match(await said('fleet', 'history', 'quick'), /^20\S+ \S+ +20\S+ \S+ +paused/m);
});

test('power verbs act, are no drift, and ask before they hurt', async () => {
  assert.equal(await said('fleet', 'start', 'quick'), 'quick\n');
  assert.match(await libvirt.virsh(TEST, 'domstate', 'quick'), /running/);
  const refused = await berth('fleet', 'stop', 'quick');
  assert.equal(refused.exitCode, 1);
  assert.match(refused.stderr, /not done: stop quick \(v2\) on \S+ of lab, which berth did not make\n.*--yes/);
  assert.match(await libvirt.virsh(TEST, 'domstate', 'quick'), /running/);
  await said('fleet', 'stop', 'quick', '--yes');
  assert.match(await libvirt.virsh(TEST, 'domstate', 'quick'), /shut off/);
  await eventually('quick is off', DEADLINE_MS, async () => (await named('quick'))?.facts.powerState === 'off');
  const drift = await rows<{ field: string }>('fleet', 'drift');
  assert.equal(drift.filter((one) => one.field === 'powerState').length, 4, 'only what virsh did');
});

test('the same VMs through a second source are the same VMs, and a source that may only be read is', async () => {
  await said('source', 'add', 'again', url());
  await eventually('both sources have looked', DEADLINE_MS, async () => {
    const shown = JSON.parse(await said('fleet', 'show', 'quick')) as { sightings: unknown[] };
    return shown.sightings.length === 2;
  });
  assert.equal((await vms()).length, 2);
  assert.match((await berth('fleet', 'ls', '--filter', 'source=again')).stdout, /quick/);
  await said('source', 'rm', 'lab');
  assert.equal((await vms()).length, 2, 'the other source still shows them');
  const denied = await berth('fleet', 'start', 'quick');
  assert.equal(denied.exitCode, 1);
  assert.match(denied.stderr, /may only read\nberth: hint: .*--allow-power/);
});

test('a source that dies keeps its VMs, marked stale; it comes back by itself', async () => {
  const before = (await vms()).map((vm) => vm.id);
  await libvirt.crash();
  await eventually('the source is down', DEADLINE_MS, async () =>
    /^again +libvirt +down/m.test(await said('source', 'ls')),
  );
  assert.deepEqual(
    (await vms()).map((vm) => [vm.id, vm.isStale]),
    before.map((id) => [id, true]),
  );
  assert.match(await said('fleet', 'ls'), /running \(stale\)/);
  assert.equal((await berth('source', 'test', 'again')).exitCode, 1);
  const history = await rows<{ closed: unknown }>('fleet', 'history', 'test');
  assert.equal(history.at(-1)?.closed, null, 'nobody said that it ended');
  await libvirt.restart();
  await eventually('the source is up', 30_000, async () => /^again +libvirt +up/m.test(await said('source', 'ls')));
  // The test driver forgets what was defined: now that it answers, quick is gone and its history is not.
  await eventually('quick is gone', DEADLINE_MS, async () => (await named('quick')) === undefined);
  assert.ok((await rows('fleet', 'history', 'quick')).length >= 5);
  assert.match(await said('fleet', 'ls', '--all'), /quick +gone/);
});

test('credentials are in no listing, log, argument or file in the clear; the key is for its owner alone', async () => {
  const secret = 'Correct-Horse-7731';
  const file = join(folder, 'credentials');
  writeFileSync(file, JSON.stringify({ user: 'operator', password: secret }), { mode: 0o600 });
  await said('source', 'add', 'secretive', `${url()}-nobody`, '--credentials-file', file);
  await eventually('it has failed once', DEADLINE_MS, async () =>
    /^secretive +libvirt +down/m.test(await said('source', 'ls')),
  );
  const { body } = await daemon.call('GET', '/berth/v1/sources');
  const places = [JSON.stringify(body), readFileSync(daemon.logPath, 'utf8')];
  for (const name of ['fleet.db', 'fleet.db-wal', 'fleet.key'])
    places.push(readFileSync(join(daemon.stateDir, name), 'latin1'));
  for (const place of places)
    assert.ok(!place.includes(secret) && !place.includes(Buffer.from(secret).toString('base64')));
  assert.equal(statSync(join(daemon.stateDir, 'fleet.key')).mode & 0o777, 0o600);
  const bad = await daemon.call('POST', '/berth/v1/sources', {
    name: 'x',
    url: url(),
    credentials: { user: 'u', password: secret, realm: 'no' },
  });
  assert.equal(bad.status, 400);
  assert.ok(!JSON.stringify(bad.body).includes(secret));
  await said('source', 'rm', 'secretive');
});

test('what is wrong with a source is said all at once, and nothing is stored', async () => {
  const wrong = await berth('source', 'add', 'bad name!', 'qemu+carrier-pigeon://root:pw@host/x', '--pin', 'sha256:zz');
  assert.equal(wrong.exitCode, 1);
  for (const part of ['bad name!', 'carrier-pigeon', 'pin']) assert.ok(wrong.stderr.includes(part), wrong.stderr);
  assert.equal((await berth('source', 'add', 'again', url())).exitCode, 1);
  assert.equal((await rows('source', 'ls')).length, 2);
});

test('the daemon killed with SIGKILL goes on where it was, and every VM has one open interval', async () => {
  const before = await rows<{ opened: unknown }>('fleet', 'history', 'test');
  await daemon.crash();
  await daemon.start();
  await eventually('the source is up again', 30_000, async () =>
    /^again +libvirt +up/m.test(await said('source', 'ls')),
  );
  assert.deepEqual(await rows('fleet', 'history', 'test'), before);
});

test("the OpenAPI document is served and names every call; what is not berth's own stays Docker's", async () => {
  const { status, body } = await daemon.call('GET', '/berth/v1/openapi.json');
  assert.equal(status, 200);
  const { openapi, paths } = body as {
    openapi: string;
    paths: Record<string, Record<string, { operationId: string }>>;
  };
  assert.equal(openapi, '3.1.1');
  const names = Object.values(paths).flatMap((methods) => Object.values(methods).map((one) => one.operationId));
  assert.ok(names.includes('fleetDrift') && names.includes('addSource') && new Set(names).size === names.length);
  assert.equal((await daemon.call('GET', '/berth/v1/fleet/vms?colour=red')).status, 400);
  assert.equal((await daemon.call('GET', '/berth/v1/fleet/nosuch')).status, 404);
  assert.equal((await daemon.call('DELETE', '/berth/v1/fleet/vms')).status, 405);
  assert.equal((await daemon.call('GET', '/berth/v1/fleet/at?time=2026-02-30')).status, 400);
  assert.equal((await daemon.call('GET', '/containers/json')).status, 200);
});

test("berth's own VMs are in the fleet as they are: their states, power verbs and counters", async () => {
  await createVm(daemon, 'mine', 'exec sleep 600', { Memory: 134_217_728 });
  await eventually('mine is known', DEADLINE_MS, async () => (await named('mine'))?.facts.powerState === 'off');
  await startVm(daemon, 'mine');
  await eventually('mine runs', DEADLINE_MS, async () => (await named('mine'))?.facts.powerState === 'running');
  assert.match(
    await said('fleet', 'ls', '--filter', 'source=berth'),
    /mine +running +berth +\S+ +1 +128MiB +\S+ +\S+\.\S+ +virtio/,
  );
  const figures = await rows<{ name: string; cpuShare: number; memoryUsedBytes: number }>('fleet', 'top');
  const own = figures.find((one) => one.name === 'mine');
  assert.ok(own !== undefined && own.cpuShare >= 0 && own.memoryUsedBytes > 1_000_000, JSON.stringify(figures));
  await said('fleet', 'pause', 'mine');
  await eventually('mine is paused', DEADLINE_MS, async () => (await named('mine'))?.facts.powerState === 'paused');
  await said('fleet', 'resume', 'mine');
  await said('fleet', 'stop', 'mine', '--yes');
  await eventually('mine is off', DEADLINE_MS, async () => (await named('mine'))?.facts.powerState === 'off');
  await daemon.call('DELETE', '/containers/mine');
  await eventually('mine is gone', DEADLINE_MS, async () => (await named('mine')) === undefined);
  const states = (await rows<{ powerState: string }>('fleet', 'history', 'mine')).map((one) => one.powerState);
  assert.deepEqual(
    states.filter((state) => state !== 'stopping'),
    ['off', 'running', 'paused', 'running', 'off'],
  );
  assert.equal((await berth('source', 'rm', 'berth')).exitCode, 1);
});
