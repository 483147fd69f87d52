import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BerthError } from './errors.ts';

test('an error of another copy of this class is an error of berth, and nothing else is', async () => {
  const copy = (await import(`./errors.ts?copy=${1}`)) as { BerthError: typeof BerthError };
  assert.notEqual(copy.BerthError, BerthError);
  assert.ok(new copy.BerthError('invalid', 'x', 'y') instanceof BerthError);
  assert.ok(new BerthError('invalid', 'x', 'y') instanceof Error);
  for (const other of [new Error('y'), { kind: 'invalid', code: 'x' }, undefined, null, 'x'])
    assert.equal((other as unknown) instanceof BerthError, false);
});
