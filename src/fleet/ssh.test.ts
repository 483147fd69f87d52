import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sshFailure } from './ssh.ts';

test('what ssh says at its end is told by what it means', () => {
  const cases: readonly [words: string, code: string][] = [
    ['root@h: Permission denied (publickey).', 'ssh.login'],
    ['Received disconnect from h: Too many authentication failures', 'ssh.login'],
    ['@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@\nHost key verification failed.', 'ssh.host_key'],
    ['No ED25519 host key is known for h and you have requested strict checking.', 'ssh.host_key'],
    ['ssh: connect to host h port 22: Connection refused', 'ssh.ended'],
    ['', 'ssh.ended'],
  ];
  for (const [words, code] of cases) assert.equal(sshFailure(words, 'h').code, code, words);
  assert.match(sshFailure('x'.repeat(5_000), 'h').message, /^.{1,600}$/);
});
