import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostHours } from './utilization.ts';

const HOUR = 3_600_000;

test('a host of two threads that was there for half an hour has a processor hour, less what its VMs used', () => {
  const host = { threads: 2, memoryBytes: 4_096, startMs: HOUR / 2, endMs: 10 * HOUR };
  const [hour, ...others] = hostHours(host, [{ hourMs: 0, cpuNanoseconds: 1_000_000_000n, memoryKibMs: 0n }], {
    fromMs: 0,
    toMs: HOUR,
  });
  assert.deepEqual(others, []);
  assert.deepEqual(hour?.cpuNanoseconds, {
    capacity: 3_600_000_000_000n,
    used: 1_000_000_000n,
    rest: 3_599_000_000_000n,
    beyond: 0n,
  });
});

test('property: whatever is used and whenever the host was there, the parts are the whole, hour by hour', () => {
  let state = 7;
  const random = (most: number): number => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((state / 2_147_483_648) * most);
  };
  for (let turn = 0; turn < 500; turn += 1) {
    const startMs = random(20 * HOUR);
    const host = {
      threads: random(256),
      memoryBytes: random(2 ** 40),
      startMs,
      endMs: startMs + random(30 * HOUR),
    };
    const uses = Array.from({ length: 50 }, (_, at) => ({
      hourMs: at * HOUR,
      cpuNanoseconds: BigInt(random(1e15)),
      memoryKibMs: BigInt(random(1e15)),
    }));
    const span = { fromMs: random(10 * HOUR), toMs: 10 * HOUR + random(40 * HOUR) };
    const hours = hostHours(host, uses, span);
    let cpu = 0n;
    for (const hour of hours) {
      for (const share of [hour.cpuNanoseconds, hour.memoryKibMs]) {
        assert.equal(share.capacity + share.beyond, share.used + share.rest);
        assert.ok(share.rest === 0n || share.beyond === 0n);
      }
      cpu += hour.cpuNanoseconds.capacity;
    }
    const lengthMs = Math.max(0, Math.min(host.endMs, span.toMs) - Math.max(host.startMs, span.fromMs));
    assert.equal(cpu, BigInt(host.threads) * BigInt(lengthMs) * 1_000_000n);
  }
});
