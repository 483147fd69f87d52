import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GIB } from '#base';
import { Exact, sumOf } from '../exact.ts';
import { numbersFrom } from '../random-fixture.ts';
import type { HostInterval, HostOverhead } from './facts.ts';
import { withMeasuredOverhead } from './measured-overhead.ts';
import { HOUR_MS } from './time-cuts.ts';
import { usageOf } from './usage-records.ts';

const START = Date.parse('2026-11-01T00:00:00Z');
const HOST: HostInterval = {
  source: 'lab',
  host: 'h1',
  vcpus: 4,
  memoryBytes: 8 * GIB,
  overheadVcpus: 1,
  overheadMemoryBytes: GIB,
  startMs: START + HOUR_MS / 2,
  endMs: START + 5 * HOUR_MS,
};

function measured(hour: number, change: Partial<HostOverhead> = {}): HostOverhead {
  const span = { startMs: START + hour * HOUR_MS, endMs: START + (hour + 1) * HOUR_MS };
  return { source: 'lab', host: 'h1', cpuNs: 1_234_567_891n, memoryByteMs: 7n, ...span, ...change };
}

test('where it was measured the measure counts, elsewhere what was configured; another host’s is another’s', () => {
  const pieces = withMeasuredOverhead([HOST], [measured(2), measured(3, { host: 'h2' })]);
  assert.deepEqual(
    pieces.map((one) => [(one.startMs - START) / HOUR_MS, (one.endMs - START) / HOUR_MS, one.measured !== undefined]),
    [
      [0.5, 2, false],
      [2, 3, true],
      [3, 5, false],
    ],
  );
  const { hosts } = usageOf([], pieces);
  const overhead = (hour: number): string =>
    String(hosts.find((one) => one.startMs === START + hour * HOUR_MS)?.overhead.vcpu);
  assert.deepEqual([overhead(1), overhead(2), overhead(3)], ['3600000', '1234.567891', '3600000']);
});

test('what reaches beyond what is confirmed of the host counts there as a whole, what lies outside of it not yet', () => {
  const last = measured(4, { startMs: START + 4 * HOUR_MS, endMs: START + 5 * HOUR_MS });
  const host = { ...HOST, endMs: START + 4 * HOUR_MS + 600_000 };
  const { hosts } = usageOf([], withMeasuredOverhead([host], [last, measured(5)]));
  assert.equal(String(hosts.at(-1)?.overhead.vcpu), '1234.567891');
  assert.equal(hosts.at(-1)?.endMs, host.endMs);
});

test('property: what was measured is in the records to the nanosecond, and the parts of a host are the host', () => {
  const numbers = numbersFrom(5);
  for (let round = 0; round < 60; round += 1) {
    const overheads = Array.from({ length: 6 }, (_, hour) =>
      measured(hour, { cpuNs: BigInt(numbers.upTo(2 ** 43)), memoryByteMs: BigInt(numbers.upTo(2 ** 50)) }),
    ).filter(() => numbers.upTo(3) > 0);
    const host = { ...HOST, overheadVcpus: 0, overheadMemoryBytes: 0 };
    const within = overheads.filter((one) => one.endMs > host.startMs && one.startMs < host.endMs);
    for (const window of ['hour', 'day', 'month'] as const) {
      const cutting = { atMs: [START + numbers.upTo(5 * HOUR_MS)], window };
      const { hosts } = usageOf([], withMeasuredOverhead([host], overheads), cutting);
      const whole = sumOf(within.map((one) => Exact.of(one.cpuNs, 1_000_000n)));
      assert.ok(sumOf(hosts.map((one) => one.overhead.vcpu)).equals(whole));
      const memory = sumOf(within.map((one) => Exact.of(one.memoryByteMs)));
      assert.ok(sumOf(hosts.map((one) => one.overhead.memory)).equals(memory));
      for (const one of hosts)
        for (const what of ['vcpu', 'memory'] as const) {
          const parts = one.allocated[what].plus(one.overhead[what]).plus(one.idle[what]);
          assert.ok(parts.minus(one.overcommitted[what]).equals(one.capacity[what]));
        }
      assert.equal(
        hosts.reduce((sum, one) => sum + one.endMs - one.startMs, 0),
        host.endMs - host.startMs,
      );
    }
  }
});
