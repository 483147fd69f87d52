import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StartGate } from './start-gate.ts';

test('as many as may are let in, the others in the order they came', async () => {
  const gate = new StartGate(2);
  const order: number[] = [];
  const enter = async (number: number): Promise<() => void> => {
    const leave = await gate.enter(new AbortController().signal);
    order.push(number);
    return leave;
  };
  const turns = [1, 2, 3, 4].map((number) => enter(number));
  const [first, second] = await Promise.all([turns[0], turns[1]]);
  assert.deepEqual(order, [1, 2]);
  first?.();
  first?.();
  const third = await turns[2];
  assert.deepEqual(order, [1, 2, 3], 'leaving twice lets in one');
  second?.();
  (await turns[3])?.();
  third?.();
  assert.deepEqual(order, [1, 2, 3, 4]);
});

test('who gives up waiting takes no turn from those behind', async () => {
  const gate = new StartGate(1);
  const stays = new AbortController().signal;
  const first = await gate.enter(stays);
  const gone = new AbortController();
  const [second, third] = [gate.enter(gone.signal), gate.enter(stays)];
  gone.abort();
  (await second)();
  let isIn = false;
  void third.then(() => {
    isIn = true;
  });
  await Promise.resolve();
  assert.equal(isIn, false, 'the first still has its turn');
  first();
  (await third)();
  assert.equal(isIn, true);
});
