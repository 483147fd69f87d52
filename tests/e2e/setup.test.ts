/** Set-up of a checkout that is set up: nothing to do, nothing said, nothing left of one that was interrupted. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { runProcess } from '#platform';
import { thisInstallation } from '#setup';

const installation = thisInstallation();
const outputs = [
  installation.kernel,
  installation.initramfs,
  installation.guestProgram,
  installation.launcher,
  installation.daemon,
];

test('set-up a second time says nothing, makes nothing again, and takes less than a second', async () => {
  const main = join(installation.root, 'src/setup/main.ts');
  const setUp = () => runProcess([process.execPath, main], { deadlineMs: 120_000 });
  assert.equal((await setUp()).exitCode, 0);
  const made = outputs.map((path) => statSync(path).mtimeMs);
  const interrupted = join(installation.build, 'kernel.0123.tmp');
  mkdirSync(interrupted);
  writeFileSync(join(interrupted, 'vmlinux'), 'half');
  const began = performance.now();
  const second = await setUp();
  const ms = performance.now() - began;
  assert.deepEqual([second.exitCode, second.stdout, second.stderr], [0, '', '']);
  assert.deepEqual(
    outputs.map((path) => statSync(path).mtimeMs),
    made,
  );
  assert.ok(!existsSync(interrupted), 'what an interrupted set-up left is gone');
  assert.ok(ms < 1_000, `it took ${ms.toFixed(0)} ms`);
});
