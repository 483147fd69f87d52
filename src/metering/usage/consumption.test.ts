import assert from 'node:assert/strict';
import { test } from 'node:test';
import { numbersFrom } from '../random-fixture.ts';
import { consumptionOf, cutConsumption, increase } from './consumption.ts';
import type { CounterSample } from './facts.ts';
import { HOUR_MS } from './time-cuts.ts';

const START = Date.parse('2026-11-01T00:00:00Z');
const sample = (minutes: number, value: bigint | number, wrapBits?: 32 | 64): CounterSample => ({
  vm: 'a',
  atMs: START + minutes * 60_000,
  counters: { networkOutBytes: BigInt(value) },
  wrapBits,
});

test('counters rise, wrap at their top, or begin anew', () => {
  assert.deepEqual(increase(5n, 9n, undefined), { amount: 4n, isReset: false });
  assert.deepEqual(increase(2n ** 32n - 10n, 5n, 32), { amount: 15n, isReset: false });
  assert.deepEqual(increase(2n ** 64n - 1n, 0n, 64), { amount: 1n, isReset: false });
  assert.deepEqual(increase(1000n, 5n, 32), { amount: 5n, isReset: true });
  assert.deepEqual(increase(2n ** 32n - 10n, 5n, undefined), { amount: 5n, isReset: true });
});

test('what is counted over a full hour is split at it, in whole units, none lost', () => {
  const { consumed, gaps } = consumptionOf([sample(50, 100), sample(65, 200)]);
  assert.deepEqual(
    consumed.map((one) => [one.endMs - START, one.amount]),
    [
      [HOUR_MS, 66n],
      [65 * 60_000, 34n],
    ],
  );
  assert.deepEqual(gaps, []);
});

test('samples that come late and counters that begin anew are recorded as gaps', () => {
  const { consumed, gaps } = consumptionOf([sample(0, 0), sample(5, 10), sample(125, 130), sample(130, 7)]);
  assert.deepEqual(
    gaps.map((gap) => [gap.kind, (gap.startMs - START) / 60_000, (gap.endMs - START) / 60_000]),
    [
      ['late', 5, 125],
      ['reset', 125, 130],
    ],
  );
  assert.equal(
    consumed.reduce((sum, one) => sum + one.amount, 0n),
    137n,
  );
});

test('hours that were counted already are cut by time where a price changes', () => {
  const piece = { vm: 'a', counter: 'cpuNs', startMs: START, endMs: START + HOUR_MS, amount: 101n } as const;
  const pieces = cutConsumption([piece], [START, START + HOUR_MS / 4, START + 9 * HOUR_MS]);
  assert.deepEqual(
    pieces.map((one) => [one.startMs - START, one.amount]),
    [
      [0, 25n],
      [HOUR_MS / 4, 76n],
    ],
  );
  assert.deepEqual(cutConsumption([piece], []), [piece]);
});

test('any order, any repetition and any cuts of the same samples count the same', () => {
  const numbers = numbersFrom(5);
  for (let round = 0; round < 100; round += 1) {
    let [value, minutes] = [BigInt(numbers.upTo(1000)), 0];
    const first = value;
    const samples = [sample(0, value)];
    for (let index = 0; index < 20; index += 1) {
      value += BigInt(numbers.upTo(100_000));
      minutes += 1 + numbers.upTo(40);
      samples.push(sample(minutes, value));
    }
    const shuffled = [...samples, ...samples.slice(3, 9)].map((one) => ({ one, rank: numbers.upTo(1000) }));
    const cuts = [START + numbers.upTo(minutes * 60_000), START + minutes * 30_000].sort((a, b) => a - b);
    const { consumed } = consumptionOf(
      shuffled.sort((a, b) => a.rank - b.rank).map(({ one }) => one),
      cuts,
    );
    assert.equal(
      consumed.reduce((sum, one) => sum + one.amount, 0n),
      value - first,
    );
    for (const piece of consumed) assert.ok(!cuts.some((cut) => cut > piece.startMs && cut < piece.endMs));
  }
});
