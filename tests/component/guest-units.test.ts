/** The guest program's pure parts (frames, fields, passwd and group lines, rings) under the address and undefined-behaviour sanitizers. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runProcess } from '#platform';

test('the C unit tests pass under the sanitizers', async () => {
  const out = mkdtempSync(join(tmpdir(), 'berth-units-'));
  try {
    const guest = new URL('../../guest', import.meta.url).pathname;
    const result = await runProcess(['make', '--silent', '-C', guest, `OUT=${out}`, 'check'], { deadlineMs: 120_000 });
    assert.equal(result.exitCode, 0, result.stdout + result.stderr);
    assert.match(result.stdout, /[0-9]+ checks/);
  } finally {
    rmSync(out, { recursive: true });
  }
});
