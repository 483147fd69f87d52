import assert from 'node:assert/strict';
import { test } from 'node:test';
import { abbaOrder, interleave } from './interleave.ts';

test('the order turns round each time, also before the first counted round', () => {
  assert.deepEqual(
    [-1, 0, 1, 2].map((round) => abbaOrder(3, round).join('')),
    ['210', '012', '210', '012'],
  );
});

test('warm-up rounds are measured and not counted', async () => {
  const log: string[] = [];
  const participant = (side: string) => ({
    side,
    once: async () => {
      log.push(side);
      return log.length;
    },
  });
  const values = await interleave([participant('a'), participant('b')], {
    rounds: 2,
    warmUps: 1,
    signal: new AbortController().signal,
    onProgress: () => {},
  });
  assert.equal(log.join(''), 'baabba');
  assert.deepEqual(
    [...values],
    [
      ['a', [3, 6]],
      ['b', [4, 5]],
    ],
  );
});
