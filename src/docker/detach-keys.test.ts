import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DetachWatcher, parseDetachKeys } from './detach-keys.ts';

test('keys are letters and control characters', () => {
  assert.deepEqual(parseDetachKeys('ctrl-p,ctrl-q'), [16, 17]);
  assert.deepEqual(parseDetachKeys('a,ctrl-@,ctrl-_,ctrl-\\'), [97, 0, 31, 28]);
  for (const text of ['ctrl-P', 'ctrl-1', 'shift-a', '', 'a,']) {
    assert.throws(() => parseDetachKeys(text), { code: 'detach_keys.malformed' }, text);
  }
});

test('the keys detach in one piece, in two, and after other input', () => {
  const feed = (...pieces: string[]): { passed: string; detached: boolean } => {
    const watcher = new DetachWatcher(parseDetachKeys('ctrl-p,ctrl-q'));
    let passed = '';
    for (const piece of pieces) {
      const { pass, detached } = watcher.feed(Buffer.from(piece));
      passed += pass.toString();
      if (detached) return { passed, detached };
    }
    return { passed, detached: false };
  };
  assert.deepEqual(feed('\u0010\u0011'), { passed: '', detached: true });
  assert.deepEqual(feed('ls\u0010', '\u0011rm'), { passed: 'ls', detached: true });
  assert.deepEqual(feed('\u0010x\u0011'), { passed: '\u0010x\u0011', detached: false });
  assert.deepEqual(feed('\u0010\u0010\u0011'), { passed: '\u0010', detached: true });
  assert.deepEqual(feed('\u0010'), { passed: '', detached: false });
});
