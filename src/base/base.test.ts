import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BerthError, errnoOf, isDigest, messageOf, parseDigest, parseVmId, shortId, UndoStack } from './index.ts';

test('undo steps run newest first, and one that fails does not stop the others', async () => {
  const undo = new UndoStack();
  const seen: string[] = [];
  undo.push(() => {
    seen.push('first');
  });
  undo.push(async () => {
    throw new Error('broken');
  });
  undo.push(() => {
    seen.push('last');
  });
  const failures: string[] = [];
  await undo.unwind((error) => failures.push(messageOf(error)));
  assert.deepEqual([seen, failures], [['last', 'first'], ['broken']]);
  await undo.unwind(() => assert.fail('nothing is undone twice'));
});

test('released steps are forgotten', async () => {
  const undo = new UndoStack();
  undo.push(() => assert.fail('released'));
  undo.release();
  await undo.unwind(() => {});
});

test('ids are made only by their parsers', () => {
  const hex = 'ab'.repeat(32);
  assert.equal(shortId(parseVmId(hex)), 'abababababab');
  assert.equal(shortId(parseDigest(`sha256:${hex}`)), 'abababababab');
  for (const bad of ['', hex.slice(1), hex.toUpperCase(), `${hex}0`, `../${hex.slice(3)}`]) {
    assert.throws(() => parseVmId(bad), BerthError);
    assert.ok(!isDigest(`sha256:${bad}`));
  }
});

test('an error keeps its kind, code, hint and cause; a system error its name', () => {
  const cause = Object.assign(new Error('no'), { code: 'ENOSPC' });
  const error = new BerthError('exhausted', 'disk.full', 'no space', { hint: 'free some', cause });
  assert.deepEqual(
    [error.kind, error.code, error.hint, errnoOf(error.cause)],
    ['exhausted', 'disk.full', 'free some', 'ENOSPC'],
  );
  assert.equal(errnoOf('ENOSPC'), undefined);
});
