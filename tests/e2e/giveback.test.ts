/** After a peak the memory is the host's again, however the machine came to be, and what it was made of stays whole. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { figuresOf } from '../harness/metrics.ts';
import { untilTemplate, wayOf } from '../harness/supply.ts';
import { createVm, eventually, execIn, inspectVm, startVm } from '../harness/vm-client.ts';

const MIB = 2 ** 20;
const PEAK_MIB = 48;
/** The guest names what is free 2 s after it was freed, at the latest. */
const GIVEN_BACK_WITHIN_MS = 15_000;

async function pidOf(daemon: TestDaemon, name: string): Promise<number> {
  return (await inspectVm(daemon, name))?.State.Pid ?? 0;
}

/** What is this process's alone: what ending it would give back. */
async function ownBytes(daemon: TestDaemon, name: string): Promise<number> {
  const text = readFileSync(`/proc/${await pidOf(daemon, name)}/smaps_rollup`, 'utf8');
  return Number(/^Private_Dirty: +([0-9]+) kB$/m.exec(text)?.[1]) * 1024;
}

/** Takes `PEAK_MIB` in the guest, gives it back, and says what stayed with QEMU. The word in its memory is still there. */
async function assertGivesBack(daemon: TestDaemon, name: string): Promise<void> {
  const run = async (script: string): Promise<string> => (await execIn(daemon, name, ['sh', '-c', script])).output;
  const fill = `dd if=/dev/urandom of=/dev/shm/peak bs=1M count=${PEAK_MIB} 2>/dev/null`;
  const word = await run('echo $RANDOM$RANDOM >/dev/shm/word; cat /dev/shm/word');
  await run(fill);
  const peak = await ownBytes(daemon, name);
  assert.ok(peak > PEAK_MIB * MIB, `${name}: ${peak} bytes at the peak`);
  await run('rm /dev/shm/peak');
  await eventually(`${name} gives its memory back`, GIVEN_BACK_WITHIN_MS, async () => {
    const own = await ownBytes(daemon, name);
    // A few pages here and there stay.
    return peak - own > (PEAK_MIB - 8) * MIB;
  });
  assert.equal(await run('cat /dev/shm/word'), word, 'what is in use stayed');
}

async function act(daemon: TestDaemon, path: string, body?: unknown): Promise<void> {
  const { status, body: answer } = await daemon.call('POST', path, body);
  assert.ok(status < 300, JSON.stringify(answer));
}

describe('memory given back', async () => {
  const daemon = await startTestDaemon();
  after(async () => assert.deepEqual(await daemon.dispose(), [], 'nothing is left behind'));

  test('by a machine of the pool', async () => {
    await eventually('a machine waits', 60_000, async () => (await figuresOf(daemon))('berth_pool_machines') >= 1);
    await createVm(daemon, 'pooled', 'exec sleep 600');
    await startVm(daemon, 'pooled');
    assert.equal(await wayOf(daemon, 'pooled'), 'pool');
    await assertGivesBack(daemon, 'pooled');
  });

  test('by a fork, and its parent keeps what it has', async () => {
    await execIn(daemon, 'pooled', ['sh', '-c', 'dd if=/dev/zero of=/dev/shm/kept bs=1M count=8 2>/dev/null']);
    await act(daemon, '/berth/v1/vms/pooled/fork?name=forked');
    await assertGivesBack(daemon, 'forked');
    const { output } = await execIn(daemon, 'pooled', ['sh', '-c', 'sha1sum </dev/shm/kept; rm /dev/shm/kept']);
    const zeros = createHash('sha1').update(Buffer.alloc(8 * MIB));
    assert.equal(output.split(' ')[0], zeros.digest('hex'));
  });

  test('by a VM that woke, in a QEMU of its own and in the twin of one that waited', async () => {
    for (const _ of ['own', 'twin']) {
      await act(daemon, '/berth/v1/vms/forked/sleep');
      await act(daemon, '/berth/v1/vms/forked/wake');
      await assertGivesBack(daemon, 'forked');
    }
  });

  test('by one that goes on from a checkpoint, which stays as it was and serves again', async () => {
    await act(daemon, '/containers/forked/checkpoints', { CheckpointID: 'calm', Exit: true });
    const id = (await inspectVm(daemon, 'forked'))?.Id ?? '';
    const stored = join(daemon.stateDir, 'vms', id, 'checkpoints', 'calm', 'memory');
    const digest = (): string => createHash('sha256').update(readFileSync(stored)).digest('hex');
    await eventually('it has ended', 20_000, async () => (await pidOf(daemon, 'forked')) === 0);
    const before = digest();
    for (const _ of ['first', 'again']) {
      await act(daemon, '/containers/forked/start?checkpoint=calm');
      await assertGivesBack(daemon, 'forked');
      assert.equal(digest(), before);
      await act(daemon, '/containers/forked/kill');
    }
  });

  test('and machines that start afterwards are made of the same, whole', async () => {
    await createVm(daemon, 'later', 'exec sleep 600');
    await startVm(daemon, 'later');
    assert.equal(await wayOf(daemon, 'later'), 'pool');
    assert.equal((await execIn(daemon, 'later', ['echo', 'well'])).output, 'well\n');
  });
});

describe('memory given back without a pool', async () => {
  const daemon = await startTestDaemon({ env: { BERTH_POOL: 'off' } });
  after(async () => assert.deepEqual(await daemon.dispose(), [], 'nothing is left behind'));

  test('by a clone of the template, which others start from afterwards', async () => {
    await untilTemplate(daemon);
    for (const name of ['first', 'second']) {
      await createVm(daemon, name, 'exec sleep 600');
      await startVm(daemon, name);
      assert.equal(await wayOf(daemon, name), 'clone');
      await assertGivesBack(daemon, name);
    }
  });
});

describe('memory given back without templates', async () => {
  const daemon = await startTestDaemon({ env: { BERTH_TEMPLATES: 'off' } });
  after(async () => assert.deepEqual(await daemon.dispose(), [], 'nothing is left behind'));

  test('by a machine that booted its kernel', async () => {
    await createVm(daemon, 'booted', 'exec sleep 600');
    await startVm(daemon, 'booted');
    assert.equal(await wayOf(daemon, 'booted'), 'boot');
    await assertGivesBack(daemon, 'booted');
  });
});
