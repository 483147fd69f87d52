/** A Xen host through the shipped command line and daemon: a real Xen 4.17, real ssh. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '#harness';
import { runProcess } from '#platform';
import { eventually } from '../harness/vm-client.ts';
import { type RunningXen, startXen } from '../harness/xen.ts';

const BERTH = new URL('../../berth', import.meta.url).pathname;
const DEADLINE_MS = 60_000;
const UUID = '5ca1ab1e-0000-4000-8000-00000000c0de';

let daemon: TestDaemon;
let xen: RunningXen;
let configuration: string;

interface Vm {
  readonly id: string;
  readonly name: string;
  readonly facts: { readonly powerState: string; readonly nativeId: string };
}

before(async () => {
  [daemon, xen] = await Promise.all([startTestDaemon({ env: { BERTH_POOL: 'off' } }), startXen()]);
  configuration = await xen.define('shop', { uuid: UUID, mac: '00:16:3e:00:00:01', disk: 1 });
  await xen.run(`xl create ${configuration}`);
});

after(async () => {
  await xen?.kill();
  assert.deepEqual(await daemon?.dispose(), []);
});

async function said(...words: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runProcess([BERTH, '--socket', daemon.socket, ...words]);
  assert.equal(exitCode, 0, `berth ${words.join(' ')}: ${stderr}`);
  return stdout;
}

async function shop(): Promise<Vm | undefined> {
  const lines = (await said('fleet', 'ls', '--json')).split('\n');
  return lines.flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Vm])).find((vm) => vm.name === 'shop');
}

test('a Xen host is added by one command, and its VMs are in the list', async () => {
  const url = `xl+ssh://root@127.0.0.1:${xen.port}/?keyfile=${xen.keyPath}&known_hosts=${xen.knownHostsPath}`;
  assert.equal(await said('source', 'add', 'lab', url, '--allow-power'), 'lab\n');
  await eventually('shop is known', DEADLINE_MS, shop);
  assert.match(await said('source', 'ls'), /^lab +xen +up +.* power +Xen 4\.17\.[0-9]+/m);
  assert.match(await said('fleet', 'ls'), /^v1 +shop +running +lab +xenlab +1 +96MiB .* xen-pv/m);
  const told = await said('source', 'test', 'lab');
  assert.match(told, /ok +inventory +1 hosts, 1 VMs\nok +events/);
  assert.match(told, /a domain that does not run is not known to xl/);
});

test('dom0’s time is the host’s overhead, its guests’ is used, and both with idle time are the whole host', async () => {
  // Read in less than three paces memory is known; here a reading takes some seconds.
  await said('source', 'pace', 'lab', '--sample-every', '5');
  type Share = Readonly<Record<'capacity' | 'used' | 'overhead' | 'idle' | 'unknown' | 'beyond', string>>;
  const hours = async () =>
    (await said('fleet', 'utilization', '--host', 'xenlab', '--json'))
      .split('\n')
      .flatMap((line) => (line === '' ? [] : [JSON.parse(line) as { cpuNs: Share; memoryKibMs: Share }]));
  await eventually('guest and dom0 have used something', DEADLINE_MS, async () =>
    (await hours()).some(({ cpuNs, memoryKibMs }) =>
      [cpuNs, memoryKibMs].every((share) => BigInt(share.used) > 0n && BigInt(share.overhead) > 0n),
    ),
  );
  const told = await hours();
  assert.ok(told.some(({ cpuNs, memoryKibMs }) => cpuNs.idle !== '0' && memoryKibMs.idle !== '0'));
  for (const hour of told)
    for (const share of [hour.cpuNs, hour.memoryKibMs]) {
      const parts = [share.used, share.overhead, share.idle, share.unknown].map(BigInt);
      const sum = parts.reduce((total, one) => total + one, 0n);
      assert.equal(BigInt(share.capacity) + BigInt(share.beyond), sum);
      assert.ok(
        parts.slice(0, 3).every((one) => one > 0n),
        JSON.stringify(share),
      );
    }
});

test('power verbs act on it, and start is refused with what there is', async () => {
  await said('fleet', 'pause', 'shop');
  assert.match(await xen.run('xl list shop'), /--p---|-bp---/);
  await said('fleet', 'resume', 'shop');
  assert.doesNotMatch(await xen.run('xl list shop'), /--p---|-bp---/);
  const { exitCode, stderr } = await runProcess([BERTH, '--socket', daemon.socket, 'fleet', 'start', 'shop']);
  assert.notEqual(exitCode, 0);
  assert.match(stderr, /no verb start[\s\S]*stop, shutdown, reboot, pause, resume/);
});

test('destroyed it is gone with its history kept; created again it is the same VM', async () => {
  const known = await shop();
  await xen.run('xl destroy shop');
  await eventually('shop is gone', DEADLINE_MS, async () => (await shop()) === undefined);
  await xen.run(`xl create ${configuration}`);
  const again = await eventually('shop is back', DEADLINE_MS, shop);
  assert.deepEqual([again.id, again.facts.nativeId], [known?.id, UUID]);
  await eventually('it runs', DEADLINE_MS, async () => (await shop())?.facts.powerState === 'running');
  const intervals = (await said('fleet', 'history', 'shop', '--json'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.equal(intervals.filter((one) => one.closed === null).length, 1);
  const gap = intervals.findIndex(
    (one, at) =>
      one.closed !== null && intervals[at + 1] !== undefined && one.closed.atMs < intervals[at + 1].opened.atMs,
  );
  assert.ok(gap >= 0, `the time it did not run is no interval: ${JSON.stringify(intervals)}`);
});
