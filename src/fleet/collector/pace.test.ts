import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failuresAfter, waitAfterFailure } from './pace.ts';

test('the wait doubles from a second to five minutes, a quarter more or less', () => {
  assert.deepEqual(
    [1, 2, 3, 4, 8, 9, 10, 50].map((failures) => waitAfterFailure(failures, 'unavailable', 0.5)),
    [1_000, 2_000, 4_000, 8_000, 128_000, 256_000, 300_000, 300_000],
  );
  assert.deepEqual([waitAfterFailure(1, 'timeout', 0), waitAfterFailure(1, 'timeout', 1)], [750, 1_250]);
});

test('wrong credentials are tried every ten minutes from the first time: accounts get locked', () => {
  assert.equal(waitAfterFailure(1, 'unauthenticated', 0.5), 600_000);
});

test('a source that comes and goes waits longer and longer; one that was up for a minute begins anew', () => {
  assert.equal(failuresAfter(5, 2_000), 6);
  assert.equal(failuresAfter(5, 60_000), 1);
});
