/**
 * What VMs consume, counted by a daemon that is killed again and again. The outside views are the kernel's account of a QEMU
 * process and `virsh domstats`: what berth counted lies between what those say before and after.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { findProcesses, runProcess } from '#platform';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { type RunningLibvirt, startLibvirt, writeDomain } from '../harness/libvirt.ts';
import { createVm, eventually, startVm } from '../harness/vm-client.ts';

const BERTH = new URL('../../berth', import.meta.url).pathname;
/** Of /proc/PID/stat: a tick of 10 ms for each of the two figures. */
const TICKS_NS = 20_000_000n;

interface Source {
  readonly name: string;
  readonly sampledMs: number | null;
}

interface Fact {
  readonly type: string;
  readonly vm: string;
  readonly name: string;
  readonly kind: string;
  readonly addresses: number;
  readonly start: string;
  readonly end: string;
  readonly amounts: Readonly<Record<string, string>>;
  readonly rates?: Readonly<Record<string, string>>;
}

let daemon: TestDaemon;
let libvirt: RunningLibvirt;
let folder: string;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'berth-fleet-usage-'));
  [daemon, libvirt] = await Promise.all([startTestDaemon({ env: { BERTH_POOL: 'off' } }), startLibvirt()]);
  await said('source', 'add', 'lab', `qemu+unix:///system?socket=${libvirt.socket}`, '--sample-every', '1');
  await said('source', 'pace', 'berth', '--sample-every', '1');
  await eventually('both sources were looked at', 60_000, async () =>
    (await sources()).every((one) => one.sampledMs !== null),
  );
});

after(async () => {
  await libvirt.dispose();
  const leaks = await daemon.dispose();
  rmSync(folder, { recursive: true, force: true });
  assert.deepEqual(leaks, []);
});

async function said(...words: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runProcess([BERTH, '--socket', daemon.socket, ...words], {
    env: { ...process.env, TZ: 'UTC' } as Record<string, string>,
  });
  assert.equal(exitCode, 0, `berth ${words.join(' ')}: ${stderr}`);
  return stdout;
}

async function sources(): Promise<Source[]> {
  return (await daemon.call('GET', '/berth/v1/sources')).body as Source[];
}

/** Until both sources have been read anew, twice: a reading may have been under way. */
async function readAnew(): Promise<void> {
  for (let turn = 0; turn < 2; turn += 1) {
    const since = Date.now();
    await eventually('the counters are read', 60_000, async () =>
      (await sources()).every((one) => (one.sampledMs ?? 0) > since),
    );
  }
}

async function facts(): Promise<Fact[]> {
  const lines = (await said('fleet', 'usage')).trimEnd().split('\n').slice(1);
  return lines.map((line) => JSON.parse(line) as Fact);
}

function consumed(all: readonly Fact[], name: string, measure: string): bigint {
  const vm = all.find((one) => one.type === 'interval' && one.name === name)?.vm;
  return all
    .filter((one) => one.type === 'consumed' && one.vm === vm)
    .reduce((sum, one) => sum + BigInt(one.amounts[measure] ?? '0'), 0n);
}

async function processNs(): Promise<bigint> {
  const { body } = await daemon.call('GET', '/containers/busy/json');
  const found = await findProcesses((body as { Id: string }).Id);
  const qemu = found.find((one) => (one.argv[0] ?? '').includes('qemu-system'));
  assert.ok(qemu !== undefined, 'QEMU runs');
  const stat = readFileSync(`/proc/${qemu.pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return BigInt(Number(fields[11]) + Number(fields[12])) * 10_000_000n;
}

async function domainNs(): Promise<bigint> {
  const text = await libvirt.virsh('qemu:///system', 'domstats', '--cpu-total', 'counted');
  return BigInt(/cpu\.time=([0-9]+)/.exec(text)?.[1] ?? '0');
}

test('processor time of every VM is counted whole: no second twice, none lost, whenever the daemon is killed', async () => {
  await createVm(daemon, 'busy', 'while :; do :; done');
  await startVm(daemon, 'busy');
  await libvirt.virsh('qemu:///system', 'define', writeDomain(libvirt, { name: 'counted', type: 'qemu' }));
  await libvirt.virsh('qemu:///system', 'start', 'counted');
  await readAnew();
  for (let round = 0; round < 6; round += 1) {
    const before_ = { own: await processNs(), domain: await domainNs() };
    await readAnew();
    const all = await facts();
    const after_ = { own: await processNs(), domain: await domainNs() };
    const [own, domain] = [consumed(all, 'busy', 'cpuNs'), consumed(all, 'counted', 'cpuNs')];
    assert.ok(
      own >= before_.own - TICKS_NS && own <= after_.own + TICKS_NS,
      `round ${round}: own ${before_.own} ≤ ${own} ≤ ${after_.own}`,
    );
    assert.ok(
      domain >= before_.domain && domain <= after_.domain,
      `round ${round}: domain ${before_.domain} ≤ ${domain} ≤ ${after_.domain}`,
    );
    await daemon.crash();
    await daemon.start();
  }
});

test('a domain that is stopped and started anew goes on from there, and what nobody saw of its end is a gap', async () => {
  await readAnew();
  const first = consumed(await facts(), 'counted', 'cpuNs');
  await libvirt.virsh('qemu:///system', 'destroy', 'counted');
  await eventually('its end is known', 60_000, async () => (await facts()).some((one) => one.kind === 'ended'));
  const ended = consumed(await facts(), 'counted', 'cpuNs');
  assert.ok(ended >= first);
  await libvirt.virsh('qemu:///system', 'start', 'counted');
  await readAnew();
  const before_ = await domainNs();
  await readAnew();
  const counted = consumed(await facts(), 'counted', 'cpuNs') - ended;
  assert.ok(counted >= before_ && counted <= (await domainNs()), `${before_} ≤ ${counted}`);
});

test('the parts of every host are the whole host, and its VMs used some of it', async () => {
  const hours = (await daemon.call('GET', '/berth/v1/fleet/utilization')).body as {
    source: string;
    cpuNs: Record<'capacity' | 'used' | 'rest' | 'beyond', string>;
  }[];
  assert.ok(hours.some((hour) => hour.source === 'berth' && BigInt(hour.cpuNs.used) > 0n));
  for (const { cpuNs } of hours)
    assert.equal(BigInt(cpuNs.capacity) + BigInt(cpuNs.beyond), BigInt(cpuNs.used) + BigInt(cpuNs.rest));
});

test('what was consumed, and addresses, are priced when the card says so', async () => {
  const card = join(folder, 'card.yaml');
  writeFileSync(
    card,
    `rate-card: consumption
format: 1
currency: EUR
charge-per: day
month: calendar
versions:
  - version: only
    effective: { from: 2026-01-01 }
    items:
      - { id: cpu, resource: cpu-used, unit: cpu-hour, price: 3600 }
      - { id: memory, resource: memory-used, unit: GiB-hour, price: 1000 }
      - { id: address, resource: address, unit: address-hour, price: 1000 }
      - { id: io, resource: disk-operations, unit: operation, price: 1 }
    idle: { share: none }
    overhead: { share: none }
`,
  );
  for (const { name } of await sources()) await daemon.call('POST', `/berth/v1/sources/${name}/refresh`);
  const file = join(folder, 'usage.jsonl');
  await eventually('the sources have confirmed what they said', 60_000, async () => {
    writeFileSync(file, await said('fleet', 'usage'));
    const all = readFileSync(file, 'utf8')
      .trimEnd()
      .split('\n')
      .slice(1)
      .map((line) => JSON.parse(line) as Fact);
    return all.some(
      (one) => one.name === 'busy' && one.addresses === 1 && Date.parse(one.end) - Date.parse(one.start) > 1_000,
    );
  });
  const report = await said('cost', 'report', '--card', card, '--usage', file, '--by', 'vm,item', '--csv');
  const costOf = (item: string): number =>
    Number(new RegExp(`^busy,${item},.*?([0-9]+\\.[0-9]+)`, 'm').exec(report)?.[1]);
  const all = readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .slice(1)
    .map((line) => JSON.parse(line) as Fact);
  // A second of a processor is 1 EUR.
  const seconds = Number(consumed(all, 'busy', 'cpuNs')) / 1e9;
  assert.ok(seconds > 1 && Math.abs(costOf('cpu') - seconds) < 0.01, `${costOf('cpu')} is not ${seconds}`);
  assert.ok(costOf('memory') > 0, report);
  assert.ok(costOf('address') > 0, report);
  const operations = consumed(all, 'busy', 'diskReadOperations') + consumed(all, 'busy', 'diskWriteOperations');
  assert.ok(operations > 0n, 'a VM reads its disks when it starts');
  assert.equal(costOf('io'), Number(operations));
  const explained = await said('cost', 'explain', '--card', card, '--usage', file, '--vm', 'busy');
  assert.match(explained, /only: io\n +[0-9]+ ÷ 1 = [0-9]+ operation\n +[0-9]+ operation × 1 = [0-9]+ EUR/);
  for (const { rates, amounts, start, end } of all.filter((one) => one.type === 'consumed')) {
    const rate = (1000 * Number(amounts['diskReadOperations'])) / (Date.parse(end) - Date.parse(start));
    if (rates === undefined) assert.equal(BigInt(amounts['diskReadOperations'] ?? 0), 0n);
    else assert.ok(Math.abs(Number(rates['diskReadsPerSecond']) - rate) <= 0.0005001);
  }
});
