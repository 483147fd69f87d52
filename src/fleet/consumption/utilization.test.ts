import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostHours, type Measured, type Share } from './utilization.ts';

const HOUR = 3_600_000;
const SECOND = 1_000_000_000n;
const NOTHING: Measured = { amount: 0n, seenMs: 0, holdsVms: true };
/** Two threads for an hour. */
const WHOLE = 7_200n * SECOND;

/** The processors of a host of two threads, in an hour that it was there. */
function hourOf(used: bigint, cpu: Measured | undefined): Share | undefined {
  const host = { threads: 2, memoryBytes: 4_096, startMs: 0, endMs: HOUR };
  const uses = [{ hourMs: 0, cpuNanoseconds: used, memoryKibMs: 0n }];
  const measured = cpu === undefined ? [] : [{ hourMs: 0, cpu, memory: NOTHING }];
  return hostHours([host], { uses, measured }, { fromMs: 0, toMs: HOUR })[0]?.cpuNanoseconds;
}

function wholeOf(share: Share | undefined): bigint {
  if (share === undefined) return -1n;
  const { used, overhead, idle, unknown, beyond } = share;
  return used + overhead + idle + unknown - beyond;
}

test('what a host used and none of its VMs did is overhead; the rest of the time that was read is idle', () => {
  assert.deepEqual(hourOf(1_000n * SECOND, { amount: 1_500n * SECOND, seenMs: HOUR, holdsVms: true }), {
    capacity: WHOLE,
    used: 1_000n * SECOND,
    overhead: 500n * SECOND,
    idle: 5_700n * SECOND,
    unknown: 0n,
    beyond: 0n,
  });
});

test('where guests’ time is not in the host’s own, as in dom0’s, all of it is overhead', () => {
  const share = hourOf(1_000n * SECOND, { amount: 300n * SECOND, seenMs: HOUR, holdsVms: false });
  assert.deepEqual([share?.overhead, share?.idle, share?.unknown], [300n * SECOND, 5_900n * SECOND, 0n]);
});

test('a host that nobody read is unknown but for what its VMs used; read for a quarter of the hour, three are unknown', () => {
  const unread = hourOf(1_000n * SECOND, undefined);
  assert.deepEqual([unread?.overhead, unread?.idle, unread?.unknown], [0n, 0n, 6_200n * SECOND]);
  const quarter = hourOf(100n * SECOND, { amount: 300n * SECOND, seenMs: HOUR / 4, holdsVms: true });
  assert.deepEqual(
    [quarter?.overhead, quarter?.idle, quarter?.unknown],
    [200n * SECOND, 1_500n * SECOND, 5_400n * SECOND],
  );
});

test('VMs that used more than their host says: no overhead, and the difference comes off unread time, then idle time', () => {
  const partly = hourOf(400n * SECOND, { amount: 300n * SECOND, seenMs: HOUR / 4, holdsVms: true });
  assert.deepEqual([partly?.overhead, partly?.idle, partly?.unknown], [0n, 1_500n * SECOND, 5_300n * SECOND]);
  const wholly = hourOf(400n * SECOND, { amount: 300n * SECOND, seenMs: HOUR, holdsVms: true });
  assert.deepEqual([wholly?.overhead, wholly?.idle, wholly?.unknown], [0n, 6_800n * SECOND, 0n]);
  const beyond = hourOf(8_000n * SECOND, { amount: 7_000n * SECOND, seenMs: HOUR, holdsVms: true });
  assert.deepEqual([beyond?.overhead, beyond?.idle, beyond?.beyond], [0n, 0n, 800n * SECOND]);
  assert.equal(wholeOf(beyond), WHOLE);
});

test('property: whatever is used and said and whenever the host was there, the parts are the whole, hour by hour', () => {
  let state = 7;
  const random = (most: number): number => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((state / 2_147_483_648) * most);
  };
  const measuredOf = (): Measured => ({
    amount: BigInt(random(1e15)),
    seenMs: random(3) === 0 ? HOUR : random(HOUR),
    holdsVms: random(2) === 0,
  });
  for (let turn = 0; turn < 500; turn += 1) {
    const startMs = random(20 * HOUR);
    const host = {
      threads: random(256),
      memoryBytes: random(2 ** 40),
      startMs,
      endMs: startMs + random(30 * HOUR),
    };
    const hourNumbers = Array.from({ length: 50 }, (_, at) => at * HOUR);
    const uses = hourNumbers.map((hourMs) => ({
      hourMs,
      cpuNanoseconds: BigInt(random(1e15)),
      memoryKibMs: BigInt(random(1e15)),
    }));
    const measured = hourNumbers
      .filter(() => random(4) > 0)
      .map((hourMs) => ({ hourMs, cpu: measuredOf(), memory: { ...measuredOf(), holdsVms: true } }));
    const span = { fromMs: random(10 * HOUR), toMs: 10 * HOUR + random(40 * HOUR) };
    const hours = hostHours([host], { uses, measured }, span);
    let cpu = 0n;
    for (const hour of hours) {
      const told = measured.find((one) => one.hourMs === hour.hourMs);
      for (const [share, of] of [
        [hour.cpuNanoseconds, told?.cpu],
        [hour.memoryKibMs, told?.memory],
      ] as const) {
        assert.equal(share.capacity, wholeOf(share));
        assert.ok([share.overhead, share.idle, share.unknown, share.beyond].every((part) => part >= 0n));
        assert.ok(share.beyond === 0n || (share.idle === 0n && share.unknown === 0n));
        const isWhole = (of?.seenMs ?? 0) >= hour.endMs - hour.startMs;
        if (isWhole) assert.equal(share.unknown, 0n, 'nothing is unknown of an hour that was read');
        if (of === undefined) assert.deepEqual([share.overhead, share.idle], [0n, 0n]);
      }
      cpu += hour.cpuNanoseconds.capacity;
    }
    const lengthMs = Math.max(0, Math.min(host.endMs, span.toMs) - Math.max(host.startMs, span.fromMs));
    assert.equal(cpu, BigInt(host.threads) * BigInt(lengthMs) * 1_000_000n);
  }
});
