import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BerthError } from '#base';
import { problemOf } from './problems.ts';

test('kinds become statuses, some codes their own', () => {
  assert.equal(problemOf(new BerthError('conflict', 'any', 'x')).status, 409);
  assert.equal(problemOf(new BerthError('not_modified', 'any', 'x')).status, 304);
  assert.equal(problemOf(new BerthError('unsupported', 'any', 'x')).status, 501);
  assert.equal(problemOf(new BerthError('invalid', 'request.too_large', 'x')).status, 413);
  assert.equal(problemOf(new BerthError('not_found', 'process.not_found', 'x')).status, 400);
  assert.deepEqual(problemOf(new Error('plain')), { status: 500, message: 'plain' });
});

test('a hint goes with the message, except where clients compare the text', () => {
  assert.equal(problemOf(new BerthError('unsupported', 'any', 'no', { hint: 'do' })).message, 'no (do)');
  assert.equal(
    problemOf(new BerthError('not_found', 'images.not_found', 'No such image: x:1', { hint: 'pull' })).message,
    'No such image: x:1',
  );
});
