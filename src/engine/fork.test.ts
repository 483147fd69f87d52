import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BerthError } from '#base';
import { forkNames } from './fork.ts';

const none: ReadonlySet<string> = new Set();

test('forks are named for their parent, past names that are taken', () => {
  assert.deepEqual(forkNames('web', { count: 1, name: undefined }, none), ['web-fork-1']);
  assert.deepEqual(forkNames('web', { count: 2, name: undefined }, new Set(['web-fork-2'])), [
    'web-fork-1',
    'web-fork-3',
  ]);
});

test('a name is the one fork’s, or what several begin with', () => {
  assert.deepEqual(forkNames('web', { count: 1, name: 'b' }, none), ['b']);
  assert.deepEqual(forkNames('web', { count: 3, name: 'b' }, none), ['b-1', 'b-2', 'b-3']);
});

test('counts outside 1 to 100, and halves, are refused', () => {
  for (const count of [0, -1, 101, 1.5, Number.NaN]) {
    assert.throws(
      () => forkNames('web', { count, name: undefined }, none),
      (error) => error instanceof BerthError && error.code === 'fork.count',
    );
  }
});
