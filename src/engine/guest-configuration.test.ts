import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clockAt, machineIdOf, productUuidOf } from './guest-configuration.ts';
import type { VmRecord } from './model.ts';

test('a moment on two clocks keeps the microseconds of the one and the nanoseconds of the other', () => {
  assert.deepEqual(clockAt(1_795_000_000_123.25, 5_000_000_001), {
    epochNs: 1_795_000_000_123_250_000n,
    boottimeNs: 5_000_000_001n,
  });
  assert.deepEqual(clockAt(0, 0), { epochNs: 0n, boottimeNs: undefined }, 'a guest that does not say when');
});

test('the clock that counts is that of now: nothing of an earlier one is kept', () => {
  const before = clockAt(1_000_000, 10);
  const stepped = clockAt(400_000, 20);
  assert.equal(before.epochNs - stepped.epochNs, 600_000_000_000n);
});

test('ids come from the VM alone: a record has the same for ever, another record another', () => {
  const record = (id: string): VmRecord => ({ id }) as unknown as VmRecord;
  const [one, other] = [record('0123456789abcdef'.repeat(4)), record('fedcba9876543210'.repeat(4))];
  assert.equal(machineIdOf(one), '0123456789abcdef0123456789abcdef');
  assert.match(productUuidOf(one), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.notEqual(productUuidOf(one), productUuidOf(other));
});
