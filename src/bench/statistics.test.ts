import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mean, median, medianRatioInterval, p99, quantile, seededRandom } from './statistics.ts';

test('the median of an even number of values lies between the two in the middle', () => {
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.equal(median([9, 1, 5]), 5);
  assert.ok(Number.isNaN(median([])));
});

test('a quantile is a value that was measured, by nearest rank', () => {
  const hundred = Array.from({ length: 100 }, (_, index) => 100 - index);
  assert.equal(p99(hundred), 99);
  assert.equal(p99([...hundred, 101]), 100);
  assert.equal(p99([3, 1, 2]), 3);
  assert.equal(quantile(hundred, 0.5), 50);
  assert.equal(quantile([7], 0), 7);
  assert.equal(mean([1, 2, 6]), 3);
});

test('the interval of a ratio holds it, narrows with more values, and is the same for the same seed', () => {
  const random = seededRandom(7);
  const around = (centre: number, count: number): number[] =>
    Array.from({ length: count }, () => centre * (0.8 + 0.4 * random()));
  const few = medianRatioInterval(around(200, 10), around(100, 10), 1);
  const [above, below] = [around(200, 300), around(100, 300)];
  const many = medianRatioInterval(above, below, 1);
  assert.ok(few.low < 2 && few.high > 2);
  assert.ok(many.low < 2.05 && many.high > 1.95);
  assert.ok(many.high - many.low < few.high - few.low);
  assert.deepEqual(medianRatioInterval(above, below, 1), many);
});

test('seeded numbers fill their range evenly', () => {
  const random = seededRandom(1);
  const counts = new Array<number>(10).fill(0);
  for (let index = 0; index < 10_000; index += 1) {
    const bin = Math.floor(random() * 10);
    counts[bin] = (counts[bin] ?? 0) + 1;
  }
  assert.ok(
    counts.every((count) => count > 850 && count < 1150),
    String(counts),
  );
});
