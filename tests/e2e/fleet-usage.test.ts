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
import { figuresOf } from '../harness/metrics.ts';
import { createVm, eventually, startVm } from '../harness/vm-client.ts';

const BERTH = new URL('../../berth', import.meta.url).pathname;
/** Of /proc/PID/stat: a tick of 10 ms for each of the two figures. */
const TICKS_NS = 20_000_000n;

interface Source {
  readonly name: string;
  readonly okMs: number | null;
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

/** Facts have a VM once its source has confirmed that it is there, which it does by looking. */
async function lookAnew(): Promise<void> {
  const since = Date.now();
  for (const { name } of await sources()) await daemon.call('POST', `/berth/v1/sources/${name}/refresh`);
  await eventually('the sources are looked at', 60_000, async () =>
    (await sources()).every((one) => (one.okMs ?? 0) > since),
  );
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
  await lookAnew();
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

interface HostHour {
  readonly source: string;
  readonly host: string;
  readonly also: readonly { readonly source: string; readonly host: string }[];
  readonly start: string;
  readonly end: string;
  readonly cpuNs: Readonly<Record<'capacity' | 'used' | 'overhead' | 'idle' | 'unknown' | 'beyond', string>>;
  readonly memoryKibMs: HostHour['cpuNs'];
}

interface Placed {
  readonly type: string;
  readonly source: string;
  readonly machine: string;
  readonly start: string;
  readonly end: string;
}

async function utilization(...words: string[]): Promise<HostHour[]> {
  const lines = (await said('fleet', 'utilization', '--json', ...words)).trimEnd().split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as HostHour);
}

const sumOf = (hours: readonly HostHour[], part: keyof HostHour['cpuNs']): bigint =>
  hours.reduce((sum, { cpuNs }) => sum + BigInt(cpuNs[part]), 0n);

/** Time of this machine's processors that was not idle, as its kernel counts it. */
function hostBusyNs(): bigint {
  const [whole = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = whole.split(/ +/).slice(1).map(Number);
  return BigInt(user + nice + system + irq + softirq) * 10_000_000n;
}

test('the parts of every host are the whole host: what its VMs used, what it needed itself, idle time and unknown', async () => {
  const hours = await utilization();
  for (const { cpuNs, memoryKibMs } of hours)
    for (const share of [cpuNs, memoryKibMs]) {
      const [whole, ...parts] = [share.capacity, share.used, share.overhead, share.idle, share.unknown].map(BigInt);
      const sum = parts.reduce((total, one) => total + one, 0n);
      assert.equal((whole ?? 0n) + BigInt(share.beyond), sum);
    }
  const own = hours.filter((hour) => hour.source === 'berth');
  assert.ok(sumOf(own, 'used') > 0n && sumOf(own, 'overhead') > 0n && sumOf(own, 'idle') > 0n);
  assert.ok(own.some((hour) => BigInt(hour.memoryKibMs.overhead) > 0n));
});

test('metrics tell the same of hosts, and which sources answer with how many VMs', async () => {
  const ofParts = (hours: readonly HostHour[], ...parts: ('used' | 'overhead' | 'idle' | 'unknown')[]): number =>
    Number(parts.reduce((total, part) => total + sumOf(hours, part), 0n)) / 1e9;
  const earlier = await utilization();
  const figures = await figuresOf(daemon);
  const later = await utilization();
  const host = earlier[0]?.host ?? '';
  const told = (part: string) => figures('berth_host_cpu_seconds', { source: 'berth', host, part });
  assert.ok(told('used') >= ofParts(earlier, 'used') && told('used') <= ofParts(later, 'used'));
  const all = told('used') + told('overhead') + told('idle') + told('unknown');
  const whole = ['used', 'overhead', 'idle', 'unknown'] as const;
  assert.ok(all > 0 && all >= ofParts(earlier, ...whole) - 1e-3 && all <= ofParts(later, ...whole) + 1e-3);
  assert.ok(figures('berth_host_memory_byte_seconds', { source: 'berth', host, part: 'used' }) > 0);
  assert.equal(figures('berth_source_up', { source: 'lab', driver: 'libvirt' }), 1);
  assert.ok(Date.now() / 1000 - figures('berth_source_seen_time_seconds', { source: 'lab' }) < 3_600);
  const { body } = await daemon.call('GET', '/berth/v1/fleet/vms?limit=1000');
  const vms = (body as { items: readonly { source: string; facts: { powerState: string } }[] }).items;
  for (const source of ['lab', 'berth'])
    assert.equal(figures('berth_source_vms', { source }), vms.filter((vm) => vm.source === source).length);
  const running = vms.filter((vm) => vm.facts.powerState === 'running').length;
  assert.ok(running > 0);
  assert.equal(figures('berth_fleet_vms', { state: 'running' }), running);
});

test('a host’s own time is counted whole: no second twice, none lost, whenever the daemon is killed', async () => {
  const told = async (): Promise<bigint> => {
    const hours = await utilization();
    return sumOf(hours, 'used') + sumOf(hours, 'overhead');
  };
  /** Between the two looks at the kernel's account lie the reading, and what was told of it. */
  const look = async () => {
    const earliest = hostBusyNs();
    await readAnew();
    return { earliest, counted: await told(), latest: hostBusyNs() };
  };
  const first = await look();
  for (let round = 0; round < 4; round += 1) {
    await daemon.crash();
    await daemon.start();
  }
  const last = await look();
  const counted = last.counted - first.counted;
  assert.ok(
    counted >= last.earliest - first.latest - TICKS_NS && counted <= last.latest - first.earliest + TICKS_NS,
    `${last.earliest - first.latest} ≤ ${counted} ≤ ${last.latest - first.earliest}`,
  );
  assert.equal(sumOf(await utilization(), 'beyond'), 0n);
});

test('the machine that libvirt and berth both run on is there once, with the VMs of both', async () => {
  const hours = await utilization();
  assert.equal(new Set(hours.map((hour) => hour.start)).size, hours.length);
  assert.ok(hours.every(({ source }) => source === 'berth'));
  assert.ok(hours.every(({ also }) => also.length === 1 && also[0]?.source === 'lab'));
  const all = (await facts()) as unknown as readonly Placed[];
  const machines = (type: string) => new Set(all.filter((one) => one.type === type).map(({ machine }) => machine));
  assert.equal(machines('host').size, 1);
  for (const type of ['interval', 'overhead']) assert.deepEqual(machines(type), machines('host'));
  const sourcesOf = new Set(all.filter((one) => one.type === 'interval').map(({ source }) => source));
  assert.deepEqual([...sourcesOf].sort(), ['berth', 'lab']);
  const spans = all.filter((one) => one.type === 'host').map(({ start, end }) => [Date.parse(start), Date.parse(end)]);
  spans.sort(([a = 0], [b = 0]) => a - b);
  for (const [index, [startMs = 0]] of spans.entries())
    assert.ok(index === 0 || startMs >= (spans[index - 1]?.[1] ?? 0));
  assert.match(await said('fleet', 'tree'), /threads.*, also lab\//);
});

test('what became of a host is a table that says its parts, for one host when it is asked so', async () => {
  const [host = ''] = (await utilization()).filter((hour) => hour.source === 'berth').map((hour) => hour.host);
  const table = await said('fleet', 'utilization', '--host', host, '--from', '2h');
  assert.match(table, /^HOST +SOURCE +FROM +TO +WHAT +CAPACITY +VMS +OVERHEAD +IDLE +UNKNOWN\n/);
  const percents = new RegExp(
    `^${host} +berth, lab .* processors +[0-9]+ +([0-9.]+)% +([0-9.]+)% +([0-9.]+)% +([0-9.]+)%$`,
    'm',
  )
    .exec(table)
    ?.slice(1)
    .map(Number);
  assert.ok(percents !== undefined, table);
  const sum = percents.reduce((total, one) => total + one, 0);
  assert.ok(Math.abs(sum - 100) < 0.5, `${sum} of a hundred`);
  assert.match(table, new RegExp(`^${host} +berth, lab .* memory +[0-9.]+GiB `, 'm'));
  assert.equal((await utilization('--host', 'nobody')).length, 0);
  assert.deepEqual(await utilization('--to', '7d', '--from', '8d'), []);
});

test('what the host itself needed is in the usage file, and is what utilization tells', async () => {
  for (const { name } of await sources()) await daemon.call('POST', `/berth/v1/sources/${name}/refresh`);
  const overheads = (await facts()).filter((one) => one.type === 'overhead') as unknown as readonly {
    readonly source: string;
    readonly cpuNs: string;
  }[];
  const own = overheads.filter((one) => one.source === 'berth').reduce((sum, one) => sum + BigInt(one.cpuNs), 0n);
  const told = sumOf(
    (await utilization()).filter((hour) => hour.source === 'berth'),
    'overhead',
  );
  assert.ok(own > 0n && own <= told, `${own} was read before ${told}`);
});

test('the daemon’s own ledger has what the host itself needed, priced as overhead', async () => {
  const card = join(folder, 'overhead.yaml');
  // A second of a processor is 1 EUR.
  writeFileSync(
    card,
    `rate-card: overhead
format: 1
currency: EUR
charge-per: hour
month: calendar
versions:
  - version: only
    effective: { from: 2026-01-01 }
    items:
      - { id: cpu, resource: vcpu, unit: vcpu-hour, price: 3600 }
    idle: { share: none }
    overhead: { share: unallocated }
`,
  );
  const confirmed = async (): Promise<number> => {
    const hosts = (await facts()).filter((one) => one.type === 'overhead') as unknown as readonly {
      readonly source: string;
      readonly cpuNs: string;
    }[];
    return hosts.filter((one) => one.source === 'berth').reduce((sum, one) => sum + Number(one.cpuNs), 0) / 1e9;
  };
  const least = await confirmed();
  await said('cost', 'card', 'set', card);
  await said('cost', 'rate');
  const lines = (await said('cost', 'report', '--by', 'category,source', '--json')).trimEnd().split('\n');
  const rows = lines.map((line) => JSON.parse(line) as Record<string, string>);
  const told = Number(rows.find((row) => row['category'] === 'overhead' && row['source'] === 'berth')?.['cost']);
  const most = await confirmed();
  assert.ok(least > 0 && told >= least - 0.001 && told <= most + 0.001, `${least} ≤ ${told} ≤ ${most}: ${lines}`);
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
