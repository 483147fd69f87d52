/** The end of a process of many threads, as the kernel shows it: a restart must not meet the tap its QEMU still holds. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isAlive, killAndWait, processInfo } from '#platform';
import { eventually } from '../harness/docker-cli.ts';

/** Its first thread ends at once; the other stays until it is killed. */
const HEADLESS = `
#include <pthread.h>
#include <unistd.h>
static void *stay(void *unused) { pause(); return unused; }
int main(void) { pthread_t thread; pthread_create(&thread, 0, stay, 0); pthread_exit(0); }
`;

test('a process whose first thread is a zombie is alive as long as another thread runs', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-threads-'));
  try {
    writeFileSync(join(folder, 'headless.c'), HEADLESS);
    execFileSync('cc', ['-pthread', '-o', join(folder, 'headless'), join(folder, 'headless.c')]);
    const child = spawn(join(folder, 'headless'), { stdio: 'ignore' });
    const pid = child.pid ?? -1;
    await eventually(async () => (await processInfo(pid))?.state === 'Z', 'its first thread has ended');
    const named = { pid, startTicks: (await processInfo(pid))?.startTicks ?? 0 };
    assert.equal(await isAlive(named), true);
    await killAndWait(named);
    assert.equal(await isAlive(named), false);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
