import assert from 'node:assert/strict';
import { test } from 'node:test';
import { perSecond } from './per-second.ts';

test('a rate is the exact quotient, rounded once to thousandths, however large the count', () => {
  const cases: readonly (readonly [bigint, number, string])[] = [
    [0n, 3_600_000, '0'],
    [3_600n, 3_600_000, '1'],
    [1n, 3_600_000, '0'],
    [2n, 3_600_000, '0.001'],
    [1n, 2_000, '0.5'],
    [1n, 3_000, '0.333'],
    [2n, 3_000, '0.667'],
    [1n, 1_600, '0.625'],
    [5n, 4, '1250'],
    [9_007_199_254_740_993n, 1_000, '9007199254740993'],
    [2n ** 70n + 1n, 1, String((2n ** 70n + 1n) * 1_000n)],
  ];
  for (const [count, lengthMs, text] of cases)
    assert.equal(perSecond(count, lengthMs), text, `${count} in ${lengthMs} ms`);
});
