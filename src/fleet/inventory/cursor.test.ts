import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeCursor, encodeCursor } from './cursor.ts';

test('a place in a list comes back as it was', () => {
  for (const place of [
    { value: 'zürich', id: 3 },
    { value: -1, id: 0 },
  ])
    assert.deepEqual(decodeCursor(encodeCursor(place)), place);
});

test('what is no place in a list is refused', () => {
  for (const text of [
    '',
    'x',
    '!!!',
    Buffer.from('[1]').toString('base64url'),
    Buffer.from('["a","b"]').toString('base64url'),
  ])
    assert.throws(() => decodeCursor(text), { code: 'fleet.cursor' }, text);
});
