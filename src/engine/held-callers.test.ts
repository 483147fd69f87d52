import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HeldCallers } from './held-callers.ts';

const LONG_MS = 60_000;

test('without anybody, or when all are served, there is nothing to wait for', async () => {
  const callers = new HeldCallers();
  await callers.untilServed(LONG_MS);
  const [first, second] = [callers.enter(), callers.enter()];
  let isServed = false;
  const served = callers.untilServed(LONG_MS).then(() => {
    isServed = true;
  });
  first();
  first();
  await new Promise(setImmediate);
  assert.equal(isServed, false, 'one that says so twice counts once');
  second();
  await served;
});

test('whoever hurries ends the waiting, also before it began, until it is over', async () => {
  const callers = new HeldCallers();
  callers.enter();
  const served = callers.untilServed(LONG_MS);
  callers.hurry();
  await served;
  await callers.untilServed(LONG_MS);
  callers.over();
  await callers.untilServed(1);
});
