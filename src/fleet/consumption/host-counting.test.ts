import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HostSample } from '../driver.ts';
import { countHost, countHostPeriod, type KeptHostReading } from './host-counting.ts';

const MINUTE = 60_000;
const EVERY = MINUTE;
const GIB = 1_073_741_824n;

const before: KeptHostReading = { run: 'boot-1', atMs: 10 * MINUTE, cpuNanoseconds: 5_000n };

function told(changes: Partial<HostSample>): HostSample {
  const figures = { cpuNanoseconds: 5_700n, cpuHoldsVms: true, memoryUsedBytes: GIB };
  return { nativeId: 'h', atMs: 11 * MINUTE, run: 'boot-1', beganMs: null, ...figures, ...changes };
}

test('the first reading counts nothing, the next one what rose, and the same once more nothing', () => {
  assert.deepEqual(countHost(undefined, told({}), EVERY)?.amounts, {});
  assert.deepEqual(countHost(before, told({}), EVERY), {
    span: { startMs: 10 * MINUTE, endMs: 11 * MINUTE },
    amounts: { cpuNanoseconds: 700n, memoryKibMs: 1_048_576n * BigInt(MINUTE) },
    gaps: [],
  });
  assert.equal(countHost(before, told({ atMs: 10 * MINUTE }), EVERY), undefined);
});

test('a host that booted counts from its boot: the time it was down and what it did before are not known, and said', () => {
  const counted = countHost(
    before,
    told({ run: 'boot-2', beganMs: 10 * MINUTE + 20_000, cpuNanoseconds: 9_000n }),
    EVERY,
  );
  assert.deepEqual(counted?.span, { startMs: 10 * MINUTE + 20_000, endMs: 11 * MINUTE });
  assert.equal(counted?.amounts.cpuNanoseconds, 9_000n);
  assert.deepEqual(counted?.gaps, [{ kind: 'reset', fromMs: 10 * MINUTE, toMs: 11 * MINUTE }]);
});

test('a boot without a name shows in counters that fell, or that began after the last reading though they are larger', () => {
  const nameless = { ...before, run: null };
  const fell = countHost(nameless, told({ run: null, cpuNanoseconds: 4_000n }), EVERY);
  assert.deepEqual([fell?.amounts.cpuNanoseconds, fell?.gaps[0]?.kind], [4_000n, 'reset']);
  const later = told({ run: null, atMs: 600 * MINUTE, beganMs: 100 * MINUTE, cpuNanoseconds: 50_000n });
  const grown = countHost(nameless, later, EVERY);
  assert.deepEqual([grown?.amounts.cpuNanoseconds, grown?.span.startMs], [50_000n, 100 * MINUTE]);
  const same = countHost(nameless, told({ run: null, beganMs: 9 * MINUTE }), EVERY);
  assert.deepEqual([same?.amounts.cpuNanoseconds, same?.gaps], [700n, []]);
});

test('a clock that was set ahead is no boot where boots have names', () => {
  const counted = countHost(before, told({ atMs: 90 * MINUTE, beganMs: 80 * MINUTE }), EVERY);
  assert.deepEqual([counted?.amounts.cpuNanoseconds, counted?.gaps.map((gap) => gap.kind)], [700n, ['late']]);
});

test('read late its processor time is known as a sum, its memory is not', () => {
  const counted = countHost(before, told({ atMs: 20 * MINUTE }), EVERY);
  assert.deepEqual(counted?.amounts, { cpuNanoseconds: 700n });
  assert.deepEqual(counted?.gaps, [{ kind: 'late', fromMs: 10 * MINUTE, toMs: 20 * MINUTE }]);
});

test('what a host does not say is not known, and more than can be is not counted: neither is nothing', () => {
  assert.deepEqual(countHost(before, told({ cpuNanoseconds: null, memoryUsedBytes: null }), EVERY)?.amounts, {});
  for (const cpuNanoseconds of [2n ** 64n - 1n, 4_999n]) {
    const counted = countHost(before, told({ cpuNanoseconds, memoryUsedBytes: 2n ** 63n }), EVERY);
    assert.deepEqual([counted?.amounts, counted?.gaps.map((gap) => gap.kind)], [{}, ['absurd']]);
  }
});

test('periods count once, one after another; what lies between two is a gap', () => {
  const period = { nativeId: 'h', startMs: 20_000, endMs: 40_000, cpuNanoseconds: 0n, memoryUsedBytes: null };
  const first = countHostPeriod(period, { untilMs: 15_000, isFirst: true });
  assert.deepEqual(first, { span: { startMs: 20_000, endMs: 40_000 }, amounts: { cpuNanoseconds: 0n }, gaps: [] });
  assert.equal(countHostPeriod(period, { untilMs: 40_000, isFirst: false }), undefined);
  const late = countHostPeriod({ ...period, startMs: 60_000, endMs: 80_000 }, { untilMs: 40_000, isFirst: false });
  assert.deepEqual(late?.gaps, [{ kind: 'late', fromMs: 40_000, toMs: 60_000 }]);
});
