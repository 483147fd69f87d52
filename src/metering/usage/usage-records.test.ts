import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GIB } from '#base';
import { Exact, sumOf } from '../exact.ts';
import { type Numbers, numbersFrom } from '../random-fixture.ts';
import type { AllocationInterval, HostInterval, PowerState } from './facts.ts';
import { HOUR_MS, monthSpan } from './time-cuts.ts';
import { type UsageRecord, usageOf } from './usage-records.ts';

const at = (text: string): number => Date.parse(text);

export function intervalOf(change: Partial<AllocationInterval>): AllocationInterval {
  return {
    vm: 'vm-1',
    name: 'web',
    source: 'lab',
    host: 'h1',
    project: undefined,
    owner: undefined,
    tags: {},
    power: 'running',
    vcpus: 2,
    memoryBytes: 4 * GIB,
    sharedMemory: undefined,
    disks: [],
    addresses: 0,
    startMs: at('2026-11-01T00:00:00Z'),
    endMs: at('2026-11-01T01:00:00Z'),
    ...change,
  };
}

const totalOf = (records: readonly UsageRecord[], resource: string): Exact =>
  sumOf(records.map((record) => record.amounts.get(resource) ?? Exact.zero));

test('an interval becomes one record for each UTC hour it touches', () => {
  const { records } = usageOf(
    [intervalOf({ startMs: at('2026-11-01T00:30:00Z'), endMs: at('2026-11-01T02:00:00.001Z') })],
    [],
  );
  assert.deepEqual(
    records.map((one) => [one.endMs - one.startMs, one.amounts.get('vcpu')?.toString()]),
    [
      [1_800_000, '3600000'],
      [HOUR_MS, '7200000'],
      [1, '2'],
    ],
  );
});

test('a cut in the middle of an hour splits it exactly', () => {
  const cut = at('2026-11-01T00:20:00.007Z');
  const { records } = usageOf([intervalOf({})], [], { atMs: [cut], window: 'hour' });
  assert.deepEqual(
    records.map((one) => one.endMs),
    [cut, at('2026-11-01T01:00:00Z')],
  );
  assert.equal(totalOf(records, 'vcpu').toString(), '7200000');
});

test('what is off keeps its disks and addresses, what is unknown is not counted', () => {
  const shape = { disks: [{ class: 'ssd', bytes: 10, iops: 5 }], addresses: 1 };
  const of = (power: PowerState): readonly string[] =>
    [...(usageOf([intervalOf({ power, ...shape })], []).records[0]?.amounts.keys() ?? [])].sort();
  assert.deepEqual(of('off'), ['address', 'disk:ssd', 'provisioned-iops']);
  assert.deepEqual(of('asleep'), of('off'));
  assert.deepEqual(of('paused'), ['address', 'disk:ssd', 'memory', 'provisioned-iops', 'vcpu']);
  assert.deepEqual(of('unknown'), []);
});

test('months have their own lengths, the leap day is one, and clock changes make no hour longer', () => {
  const hours = (month: string): number => {
    const records = usageOf([intervalOf({ ...monthSpan(month) })], []).records;
    return records.length;
  };
  assert.deepEqual(['2026-02', '2028-02', '2026-03', '2026-10', '2026-12'].map(hours), [672, 696, 744, 744, 744]);
});

test('memory that clones share is counted once and split among those that run just then', () => {
  const shared = { group: 'template-a', bytes: 3 * GIB };
  const clone = (vm: string, endMinutes: number): AllocationInterval =>
    intervalOf({ vm, sharedMemory: shared, endMs: at('2026-11-01T00:00:00Z') + endMinutes * 60_000 });
  const clones = [clone('a', 60), clone('b', 60), clone('c', 20), { ...clone('d', 60), power: 'off' as const }];
  const host = hostOf({ memoryBytes: 16 * GIB });
  const { records, hosts } = usageOf(clones, [host]);
  const memoryOf = (vm: string): Exact =>
    totalOf(
      records.filter((one) => one.interval.vm === vm),
      'memory',
    );
  const minutes = (count: number, bytes: number): Exact => Exact.of(BigInt(count) * 60_000n * BigInt(bytes));
  // Its own GiB for 60 minutes; a third of 3 GiB for 20 minutes and half of it for 40.
  assert.ok(
    memoryOf('a').equals(
      minutes(60, GIB)
        .plus(minutes(20, GIB))
        .plus(minutes(40, 1.5 * GIB)),
    ),
  );
  assert.ok(memoryOf('c').equals(minutes(20, 2 * GIB)));
  assert.ok(totalOf(records, 'memory').equals(hosts[0]?.allocated.memory ?? Exact.zero));
  assert.ok(
    totalOf(records, 'memory').equals(
      minutes(60, 3 * GIB)
        .plus(minutes(60, 2 * GIB))
        .plus(minutes(20, GIB)),
    ),
  );
});

export function hostOf(change: Partial<HostInterval>): HostInterval {
  return {
    source: 'lab',
    host: 'h1',
    vcpus: 8,
    memoryBytes: 32 * GIB,
    overheadVcpus: 1,
    overheadMemoryBytes: 2 * GIB,
    startMs: at('2026-11-01T00:00:00Z'),
    endMs: at('2026-11-01T01:00:00Z'),
    ...change,
  };
}

/** VMs that come, go, move, change shape and power, some of them clones, over two days around a month's end. */
function randomEstate(numbers: Numbers): { intervals: AllocationInterval[]; hosts: HostInterval[] } {
  const startMs = at('2026-10-30T13:00:00Z');
  const intervals: AllocationInterval[] = [];
  for (let vm = 0; vm < 1 + numbers.upTo(6); vm += 1) {
    let now = startMs + numbers.upTo(10 * HOUR_MS);
    for (let piece = 0; piece < numbers.upTo(8); piece += 1) {
      const endMs = now + 1 + numbers.upTo(7 * HOUR_MS);
      intervals.push(
        intervalOf({
          vm: `vm-${vm}`,
          host: numbers.pick(['h1', 'h2']),
          power: numbers.pick(['running', 'running', 'paused', 'off', 'asleep']),
          vcpus: 1 + numbers.upTo(5),
          memoryBytes: 2 * GIB + numbers.upTo(1000),
          sharedMemory: numbers.pick([undefined, { group: 'g', bytes: GIB + numbers.upTo(7) }]),
          disks: [{ class: 'ssd', bytes: 1 + numbers.upTo(1_000_000), iops: undefined }],
          addresses: numbers.upTo(2),
          startMs: now,
          endMs,
        }),
      );
      now = endMs + numbers.pick([0, 0, numbers.upTo(HOUR_MS)]);
    }
  }
  const hosts = ['h1', 'h2'].map((host) =>
    hostOf({ host, vcpus: 2 + numbers.upTo(12), startMs: startMs - 5000, endMs: startMs + 60 * HOUR_MS + 123 }),
  );
  return { intervals, hosts };
}

test('however time is cut, the sum is the whole: nothing twice, nothing lost', () => {
  const numbers = numbersFrom(3);
  for (let round = 0; round < 60; round += 1) {
    const { intervals, hosts } = randomEstate(numbers);
    const cuts = Array.from(
      { length: numbers.upTo(6) },
      () => at('2026-10-30T13:00:00Z') + numbers.upTo(50 * HOUR_MS),
    ).sort((a, b) => a - b);
    const [plain, cut] = [usageOf(intervals, hosts), usageOf(intervals, hosts, { atMs: cuts, window: 'hour' })];
    for (const window of ['hour', 'day', 'month'] as const) {
      const other = usageOf(intervals, hosts, { atMs: cuts, window });
      for (const resource of ['vcpu', 'memory', 'disk:ssd', 'address'])
        assert.ok(totalOf(plain.records, resource).equals(totalOf(other.records, resource)), resource);
    }
    const disks = intervals.map((one) => BigInt(one.disks[0]?.bytes ?? 0) * BigInt(one.endMs - one.startMs));
    assert.ok(totalOf(cut.records, 'disk:ssd').equals(sumOf(disks.map((one) => Exact.of(one)))));
    for (const one of intervals) {
      const own = cut.records.filter((record) => record.interval === one).sort((a, b) => a.startMs - b.startMs);
      assert.equal(own[0]?.startMs, one.startMs);
      assert.equal(own.at(-1)?.endMs, one.endMs);
      for (const [index, record] of own.entries()) {
        if (index > 0) assert.equal(record.startMs, own[index - 1]?.endMs);
        assert.equal(Math.floor(record.startMs / HOUR_MS), Math.floor((record.endMs - 1) / HOUR_MS));
        assert.ok(!cuts.some((moment) => moment > record.startMs && moment < record.endMs));
      }
    }
  }
});

test('the parts of a host add up to the host in every hour, and its VMs to what it gave out', () => {
  const numbers = numbersFrom(4);
  for (let round = 0; round < 60; round += 1) {
    const { intervals, hosts } = randomEstate(numbers);
    const usage = usageOf(intervals, hosts);
    for (const one of usage.hosts)
      for (const what of ['vcpu', 'memory'] as const) {
        const parts = one.allocated[what].plus(one.overhead[what]).plus(one.idle[what]).minus(one.overcommitted[what]);
        assert.ok(parts.equals(one.capacity[what]));
        const given = usage.records.filter(
          (record) => record.interval.host === one.host && record.startMs >= one.startMs && record.endMs <= one.endMs,
        );
        assert.ok(totalOf(given, what).equals(one.allocated[what]));
      }
    for (const host of hosts) {
      const hours = usage.hosts.filter((one) => one.host === host.host);
      const ms = hours.reduce((sum, one) => sum + one.endMs - one.startMs, 0);
      assert.equal(ms, host.endMs - host.startMs);
    }
  }
});
