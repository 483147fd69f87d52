import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StartGate } from './start-gate.ts';

test('as many as may are let in, the others in the order they came', async () => {
  const gate = new StartGate(2);
  const order: number[] = [];
  const enter = async (number: number): Promise<() => void> => {
    const leave = await gate.enter();
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
