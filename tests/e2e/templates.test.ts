/**
 * A start is a clone of a template, and a template can be damaged, lost, late, out of date or too large: whatever happens
 * to it, the VM starts, and what is broken is made anew. Seen from outside: files, processes, figures.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { findProcesses, isAlive, runChecked } from '#platform';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { figuresOf, templateFigures } from '../harness/metrics.ts';
import { templateProcesses, templatesOf, untilTemplate, wayOf } from '../harness/supply.ts';
import { createVm, eventually, execIn, inspectVm, logsOf, startVm } from '../harness/vm-client.ts';

const MIB = 2 ** 20;
const NO_POOL = { env: { BERTH_POOL: 'off' } };

/** Starts a VM, sees it run a command and takes it away again; says how it was started. */
async function startOne(daemon: TestDaemon, host: Record<string, unknown> = {}): Promise<string> {
  const name = `one${Math.random().toString(36).slice(2)}`;
  await createVm(daemon, name, 'echo up; exec sleep 600', host);
  await startVm(daemon, name);
  assert.equal((await execIn(daemon, name, ['echo', 'alive'])).output, 'alive\n');
  const way = await wayOf(daemon, name);
  await daemon.call('DELETE', `/containers/${name}?force=1`);
  return way;
}

function logOf(daemon: TestDaemon): string {
  return readFileSync(daemon.logPath, 'utf8');
}

describe('templates, without a pool', () => {
  let daemon: TestDaemon;

  before(async () => {
    daemon = await startTestDaemon(NO_POOL);
  });

  after(async () => {
    assert.equal((await figuresOf(daemon))('berth_pool_machines'), 0);
    assert.deepEqual(await findProcesses(`${daemon.runDir}/vm/s`), [], 'BERTH_POOL=off never makes a machine ahead');
    assert.deepEqual(await daemon.dispose(), [], 'nothing is left behind');
  });

  test('a state that was cut, changed or removed is thrown away and made anew, and the VM starts all the same', async () => {
    const damages: Readonly<Record<string, (path: string) => void>> = {
      cut: (path) => truncateSync(path, 1_000),
      changed: (path) => {
        const bytes = readFileSync(path);
        bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
        writeFileSync(path, bytes);
      },
      removed: (path) => rmSync(path),
    };
    assert.equal(await startOne(daemon), 'clone');
    for (const [what, damage] of Object.entries(damages)) {
      const earlier = await untilTemplate(daemon);
      const before = await templateFigures(daemon);
      damage(earlier.stateFile);
      assert.equal(await startOne(daemon), 'clone', `state ${what}`);
      const { made, discarded, failed } = await templateFigures(daemon);
      assert.deepEqual([made, discarded, failed], [before.made + 1, before.discarded + 1, before.failed], what);
      assert.equal(await isAlive(earlier.holder), false, 'the memory of the damaged one is given back');
    }
    assert.match(logOf(daemon), /template [0-9a-f]+ is thrown away: its state is not what was saved/);
    assert.match(logOf(daemon), /is thrown away: its state cannot be read/);
  });

  test('its memory lost: running clones do not notice, and ten starts at once make one new template', async () => {
    await createVm(daemon, 'bystander', 'exec sleep 600');
    await startVm(daemon, 'bystander');
    const { holder } = await untilTemplate(daemon);
    const before = await templateFigures(daemon);
    process.kill(holder.pid, 'SIGKILL');
    const ways = await Promise.all(Array.from({ length: 10 }, () => startOne(daemon)));
    assert.deepEqual(new Set(ways), new Set(['clone']));
    const { made, discarded, failed } = await templateFigures(daemon);
    assert.deepEqual([made, discarded, failed], [before.made + 1, before.discarded + 1, before.failed]);
    assert.equal((await execIn(daemon, 'bystander', ['sh', '-c', 'ls / | wc -l; echo on'])).exitCode, 0);
    await daemon.call('DELETE', '/containers/bystander?force=1');
  });

  test('fifty starts while a template is being made: it is made once, and all run', async () => {
    const before = await templateFigures(daemon);
    const names = Array.from({ length: 50 }, (_, index) => `many${index}`);
    const host = { Memory: 128 * MIB };
    await Promise.all(names.map((name) => createVm(daemon, name, 'echo up', host)));
    await Promise.all(names.map((name) => startVm(daemon, name)));
    await Promise.all(names.map((name) => daemon.call('POST', `/containers/${name}/wait`)));
    for (const name of names) assert.equal(await logsOf(daemon, name), 'up\n');
    assert.deepEqual(new Set(await Promise.all(names.map((name) => wayOf(daemon, name)))), new Set(['clone']));
    assert.equal((await templateFigures(daemon)).made, before.made + 1);
    await Promise.all(names.map((name) => daemon.call('DELETE', `/containers/${name}?force=1`)));
  });

  test('a crash of the daemon: the next one adopts what is good, of every size, and gives it back when it leaves', async () => {
    const [usual, small] = [await untilTemplate(daemon), await untilTemplate(daemon, 128)];
    await daemon.crash();
    await daemon.start();
    assert.equal(await startOne(daemon), 'clone');
    assert.equal(await startOne(daemon, { Memory: 128 * MIB }), 'clone');
    assert.deepEqual(await templateFigures(daemon), { made: 0, adopted: 2, discarded: 0, failed: 0 });
    assert.deepEqual(
      templatesOf(daemon)
        .map(({ holder }) => holder.pid)
        .sort(),
      [usual.holder.pid, small.holder.pid].sort(),
    );
    await daemon.crash();
    await daemon.start();
    await untilTemplate(daemon);
    await daemon.stop();
    assert.deepEqual(await templateProcesses(daemon), [], 'also those that this daemon never used');
    await daemon.start();
  });

  test('a template no machine can start from is given up after two tries and made anew', async () => {
    const broken = await untilTemplate(daemon);
    await daemon.crash();
    // As after a write that tore unseen: the sum is that of what is there.
    const state = readFileSync(broken.stateFile).fill(0, 4_000, 40_000);
    writeFileSync(broken.stateFile, state);
    const description = JSON.parse(readFileSync(broken.description, 'utf8'));
    const stateSha256 = createHash('sha256').update(state).digest('hex');
    writeFileSync(broken.description, JSON.stringify({ ...description, stateSha256 }));
    await daemon.start();
    assert.equal(await startOne(daemon), 'boot');
    assert.equal(await startOne(daemon), 'boot');
    assert.equal(await startOne(daemon), 'clone');
    assert.deepEqual(await templateFigures(daemon), { made: 1, adopted: 1, discarded: 1, failed: 0 });
    const figures = await figuresOf(daemon);
    assert.equal(figures('berth_clone_failures_total'), 2);
    assert.equal(figures('berth_starts_total', { way: 'boot' }), 2);
    assert.match(logOf(daemon), /a clone did not work out, it goes another way: .*QEMU/);
    assert.match(logOf(daemon), /is thrown away: 2 machines could not start from it/);
  });

  test('what an earlier daemon left that cannot be read or has another key is ended', async () => {
    await startOne(daemon, { Memory: 128 * MIB });
    const [usual, small] = [await untilTemplate(daemon), await untilTemplate(daemon, 128)];
    await daemon.crash();
    writeFileSync(usual.description, '{"key":');
    const description = JSON.parse(readFileSync(small.description, 'utf8'));
    writeFileSync(small.description, JSON.stringify({ ...description, key: description.key.replace(/^./, 'x') }));
    await daemon.start();
    assert.equal(await startOne(daemon), 'clone');
    assert.equal(await isAlive(usual.holder), false, 'nobody reads what holds its memory');
    assert.equal(await isAlive(small.holder), false);
    assert.equal((await templateFigures(daemon)).made, 1);
  });

  test('a daemon that dies while it makes a template leaves nothing of it to the next', async () => {
    await daemon.stop();
    for (const delayMs of [0, 400, 1_200]) {
      await daemon.start();
      await eventually('a template is being made', 30_000, async () => (await templateProcesses(daemon)).length >= 2);
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      await daemon.crash();
    }
    const left = await templateProcesses(daemon);
    await daemon.start();
    assert.equal(await startOne(daemon), 'clone');
    const { holder } = await untilTemplate(daemon);
    assert.deepEqual(await templateProcesses(daemon), [holder.pid], `of ${left.join(', ')} only what is used`);
  });

  test('a QEMU killed at any stage of its start: the VM runs by another way or says why not, and never hangs', async () => {
    const attempt = async (delayMs: number): Promise<void> => {
      const name = `killed${delayMs}`;
      const id = await createVm(daemon, name, 'exec sleep 600');
      let isOver = false;
      const starting = daemon.call('POST', `/containers/${name}/start`).finally(() => {
        isOver = true;
      });
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      let killed = 0;
      while (killed === 0 && !isOver) {
        for (const { pid } of await findProcesses(`${daemon.runDir}/vm/v${id.slice(0, 12)}/`)) {
          process.kill(pid, 'SIGKILL');
          killed = pid;
        }
      }
      const { status, body } = await starting;
      if (status === 204) {
        // Killed in time, or after all was done: then it has exited and says so.
        const seen = await inspectVm(daemon, name);
        if (seen?.State.Status === 'running') {
          const { exitCode, output } = await execIn(daemon, name, ['true']).catch(() => ({ exitCode: -1, output: '' }));
          const later = await inspectVm(daemon, name);
          assert.ok(exitCode === 0 || later?.State.Status === 'exited', `${delayMs} ms: ${exitCode} ${output}`);
        } else
          assert.match(
            `${seen?.State.Status} ${seen?.State.Error}`,
            /QEMU \(pid [0-9]+\) (was ended by signal SIGKILL|ended)/,
          );
      } else {
        assert.ok(status >= 400 && status < 600, `${delayMs} ms: ${status}`);
        assert.match(
          (body as { message: string }).message,
          /QEMU \(pid [0-9]+\) (was ended by signal SIGKILL|ended)/,
          `${delayMs} ms`,
        );
      }
      await daemon.call('POST', `/containers/${name}/kill`);
      await startVm(daemon, name).catch((error: Error) => assert.match(error.message, /304/));
      assert.equal((await execIn(daemon, name, ['echo', 'again'])).output, 'again\n', `${delayMs} ms`);
      await daemon.call('DELETE', `/containers/${name}?force=1`);
    };
    const began = performance.now();
    for (const delaysMs of [
      [0, 5],
      [15, 30],
      [60, 120],
    ])
      await Promise.all(delaysMs.map(attempt));
    assert.ok(performance.now() - began < 60_000, 'nothing waited for a deadline');
    assert.deepEqual(await daemon.leaks(), []);
    assert.equal(await startOne(daemon), 'clone', 'afterwards starts are clones again');
  });
});

test('templates of another guest program are ended by the next daemon, older or newer', async () => {
  // An installation of its own, whose guest program can be exchanged.
  const root = mkdtempSync(join(tmpdir(), 'berth-install-'));
  const built = new URL('../../.build', import.meta.url).pathname;
  mkdirSync(join(root, '.build'));
  for (const name of ['daemon', 'initramfs.cpio']) {
    cpSync(join(built, name), join(root, '.build', name), { recursive: true, preserveTimestamps: true });
  }
  for (const name of ['kernel', 'berth-launch', 'berth-memory', 'guest-init']) {
    symlinkSync(join(built, name), join(root, '.build', name));
  }
  const initramfs = join(root, '.build/initramfs.cpio');
  const { size } = await import('node:fs').then(({ statSync }) => statSync(initramfs));
  const daemon = await startTestDaemon({ ...NO_POOL, program: join(root, '.build/daemon/main.mjs') });
  try {
    // Zeros after an archive are no part of it: the guest stays the same, its file does not.
    const exchanges = [() => appendFileSync(initramfs, Buffer.alloc(512)), () => truncateSync(initramfs, size)];
    await createVm(daemon, 'older', 'exec sleep 600');
    await startVm(daemon, 'older');
    for (const exchange of exchanges) {
      const { holder } = await untilTemplate(daemon);
      await daemon.crash();
      exchange();
      await daemon.start();
      assert.equal(await startOne(daemon), 'clone');
      assert.equal(await isAlive(holder), false, 'the memory of the stale one is given back');
      assert.deepEqual(await templateFigures(daemon), { made: 1, adopted: 0, discarded: 1, failed: 0 });
      assert.equal((await execIn(daemon, 'older', ['echo', 'on'])).output, 'on\n', 'its clone runs on');
    }
  } finally {
    assert.deepEqual(await daemon.dispose(), []);
    rmSync(root, { recursive: true });
  }
});

test('a run folder without room: starts boot the kernel, which is logged and counted, and go on as clones later', async () => {
  const daemon = await startTestDaemon({});
  const folder = join(daemon.runDir, 'templates');
  try {
    await daemon.stop();
    mkdirSync(folder, { recursive: true });
    await runChecked(['mount', '-t', 'tmpfs', '-o', 'size=64k,mode=711', 'tmpfs', folder]);
    try {
      await daemon.start();
      assert.equal(await startOne(daemon), 'boot');
      assert.equal(await startOne(daemon), 'boot');
      const figures = await figuresOf(daemon);
      assert.equal(figures('berth_starts_total', { way: 'boot' }), 2);
      assert.deepEqual(await templateFigures(daemon), { made: 0, adopted: 0, discarded: 0, failed: 1 });
      assert.equal(logOf(daemon).match(/no template of 256 MiB could be made: /g)?.length, 1, 'tried once a minute');
    } finally {
      await daemon.stop();
      await runChecked(['umount', folder]);
    }
    await daemon.start();
    assert.equal(await startOne(daemon), 'clone');
  } finally {
    assert.deepEqual(await daemon.dispose(), []);
  }
});

test('a run folder that is full as a whole: VMs start all the same, or say that there is no room', async () => {
  const daemon = await startTestDaemon(NO_POOL);
  try {
    await daemon.stop();
    await runChecked(['mount', '-t', 'tmpfs', '-o', 'size=128k,mode=711', 'tmpfs', daemon.runDir]);
    const ballast = join(daemon.runDir, 'ballast');
    const fill = (): void => {
      try {
        for (;;) writeFileSync(ballast, Buffer.alloc(4096, 1), { flag: 'a' });
      } catch {
        // Full.
      }
    };
    try {
      fill();
      await assert.rejects(daemon.start(), /no space left in the run folder/);
      rmSync(ballast);
      await daemon.start();
      fill();
      await createVm(daemon, 'crowded', 'exec sleep 600', { NetworkMode: 'none' });
      await startVm(daemon, 'crowded');
      assert.equal(await wayOf(daemon, 'crowded'), 'boot');
      await createVm(daemon, 'named', 'exec sleep 600');
      const { status, body } = await daemon.call('POST', '/containers/named/start');
      if (status !== 204) assert.match((body as { message: string }).message, /no space left/i);
      rmSync(ballast);
      assert.equal((await daemon.call('POST', '/containers/named/start')).status, status === 204 ? 304 : 204);
      for (const name of ['crowded', 'named']) {
        assert.equal((await execIn(daemon, name, ['echo', 'alive'])).output, 'alive\n');
        assert.equal((await daemon.call('DELETE', `/containers/${name}?force=1`)).status, 204);
      }
    } finally {
      rmSync(ballast, { force: true });
      await daemon.stop();
      await runChecked(['umount', daemon.runDir]);
    }
    assert.equal(existsSync(daemon.socket), false);
  } finally {
    assert.deepEqual(await daemon.dispose(), []);
  }
});

test('a budget too small for any template: starts boot the kernel, and it is said once', async () => {
  const daemon = await startTestDaemon({ env: { BERTH_TEMPLATES_BYTES: String(64 * MIB) } });
  try {
    for (let round = 0; round < 3; round += 1) assert.equal(await startOne(daemon), 'boot');
    const said = logOf(daemon).match(/no template of 256 MiB: templates may hold 64 MiB in all/g) ?? [];
    assert.ok(said.length >= 1 && said.length <= 3, `said ${said.length} times`);
    assert.deepEqual(await templateProcesses(daemon), []);
  } finally {
    assert.deepEqual(await daemon.dispose(), []);
  }
});

test('a budget for one template: sizes take turns, and all VMs run', async () => {
  const daemon = await startTestDaemon({ env: { BERTH_POOL: 'off', BERTH_TEMPLATES_BYTES: String(300 * MIB) } });
  try {
    await untilTemplate(daemon);
    const sizes = [128, 256, 192, 128, 256];
    const ways = await Promise.all(sizes.map((mib) => startOne(daemon, { Memory: mib * MIB })));
    assert.ok(ways.every((way) => way === 'clone' || way === 'boot'));
    const held = templatesOf(daemon).reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
    assert.ok(held <= 300 * MIB, `${held / MIB} MiB are held`);
    assert.equal((await templateProcesses(daemon)).length, templatesOf(daemon).length);
  } finally {
    assert.deepEqual(await daemon.dispose(), []);
  }
});

test('templates off: leftovers of an earlier daemon are ended, and every start boots the kernel', async () => {
  const env: Record<string, string> = { BERTH_POOL: 'off' };
  const daemon = await startTestDaemon({ env });
  try {
    const { holder } = await untilTemplate(daemon);
    await daemon.crash();
    env['BERTH_TEMPLATES'] = 'off';
    await daemon.start();
    assert.equal(await startOne(daemon), 'boot');
    assert.equal(await isAlive(holder), false);
  } finally {
    assert.deepEqual(await daemon.dispose(), []);
  }
});
