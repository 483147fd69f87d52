/** Full disks, many VMs, small and odd machines. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runChecked } from '#platform';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { createVm, eventually, execIn, inspectVm, logsOf, startVm } from '../harness/vm-client.ts';

/** Enough for the guest kernel's copy (55 MB) and a few small disks. */
const SMALL_DISK_MIB = 90;

test('a host disk that fills up stops writers instead of losing data, and they go on when there is room', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-full-'));
  await runChecked(['mount', '-t', 'tmpfs', '-o', `size=${SMALL_DISK_MIB}m,mode=711`, 'tmpfs', folder]);
  const ballast = join(folder, 'ballast');
  try {
    const daemon = await startTestDaemon({ flags: ['--state-dir', join(folder, 'state')] });
    try {
      await createVm(daemon, 'writer', 'sleep 600');
      await startVm(daemon, 'writer');
      fill(ballast);
      // The log: the writer waits, and no line is missing afterwards.
      await createVm(daemon, 'never', 'true').then(
        () => assert.fail('a VM was made without room for its disk'),
        (error: Error) => assert.match(error.message, /507.*no space left on the host/),
      );
      const writing = execIn(daemon, 'writer', [
        'sh',
        '-c',
        'dd if=/dev/urandom of=/big bs=1M count=8 2>/dev/null; sync; md5sum /big | cut -c1-32; md5sum /big | cut -c1-32',
      ]);
      const stopped = await eventually('the VM has stopped for want of room', 60_000, async () => {
        const seen = await inspectVm(daemon, 'writer');
        return seen?.State.Status === 'paused' && seen;
      });
      assert.match(stopped.State.Error, /the host disk is full/);
      rmSync(ballast);
      assert.equal((await daemon.call('POST', '/containers/writer/unpause')).status, 204);
      const { output, exitCode } = await writing;
      const [first, second] = output.split('\n');
      assert.equal(exitCode, 0);
      assert.equal(first, second);
      assert.equal((await execIn(daemon, 'writer', ['dmesg'])).output.match(/I\/O error/), null);
    } finally {
      rmSync(ballast, { force: true });
      assert.deepEqual(await daemon.dispose(), []);
    }
  } finally {
    await runChecked(['umount', folder]);
    rmSync(folder, { recursive: true });
  }
});

/** Takes all the room there is. */
function fill(path: string): void {
  const chunk = Buffer.alloc(64 * 1024, 1);
  for (;;) {
    try {
      writeFileSync(path, chunk, { flag: 'a' });
    } catch {
      return;
    }
  }
}

test('100 VMs made and removed, a dozen of them run, leave no process, tap, rule, file or descriptor', async () => {
  const daemon = await startTestDaemon({ env: { BERTH_POOL: 'off' } });
  try {
    await createVm(daemon, 'warm', 'true');
    await daemon.call('DELETE', '/containers/warm');
    const before = await descriptors(daemon);
    for (let round = 0; round < 4; round += 1) {
      const names = Array.from({ length: 25 }, (_, index) => `vm${round}-${index}`);
      await Promise.all(
        names.map((name) => createVm(daemon, name, 'echo done', { PortBindings: { '80/tcp': [{ HostPort: '' }] } })),
      );
      await Promise.all(names.slice(0, 3).map((name) => startVm(daemon, name)));
      for (const name of names.slice(0, 3)) {
        await daemon.call('POST', `/containers/${name}/wait`);
        assert.equal(await logsOf(daemon, name), 'done\n');
      }
      await Promise.all(names.map((name) => daemon.call('DELETE', `/containers/${name}?force=1`)));
    }
    assert.deepEqual(await daemon.leaks(), []);
    assert.ok((await descriptors(daemon)) <= before + 2, `${await descriptors(daemon)} descriptors, ${before} before`);
  } finally {
    assert.deepEqual(await daemon.dispose(), []);
  }
});

/** Open descriptors of the daemon once idle connections are gone. */
async function descriptors(daemon: TestDaemon): Promise<number> {
  return await Promise.resolve(readdirSync(`/proc/${daemon.pid}/fd`).length);
}

test('a flood of output is logged whole while berthd stays small', async () => {
  const daemon = await startTestDaemon({ env: { BERTH_POOL: 'off' } });
  try {
    await createVm(daemon, 'flood', 'yes "$(seq -s, 1 30)" | head -c 30000000; echo; echo end >&2');
    await startVm(daemon, 'flood');
    await daemon.call('POST', '/containers/flood/wait');
    const text = await logsOf(daemon, 'flood');
    assert.equal(text.length, 30_000_000 + '\nend\n'.length);
    const rss = Number((await runChecked(['ps', '-o', 'rss=', '-p', String(daemon.pid)])).stdout) / 1024;
    assert.ok(rss < 300, `berthd takes ${rss.toFixed(0)} MB after 30 MB of output`);
  } finally {
    assert.deepEqual(await daemon.dispose(), []);
  }
});
