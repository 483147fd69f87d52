/** Machines as twins of a mould: as unprivileged as any, sharing what they may, and not needed for anything to work. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { findProcesses } from '#platform';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { figuresOf } from '../harness/metrics.ts';
import { wayOf } from '../harness/supply.ts';
import { createVm, eventually, execIn, inspectVm, startVm } from '../harness/vm-client.ts';

const statusOf = (pid: number): Record<string, string> =>
  Object.fromEntries(
    readFileSync(`/proc/${pid}/status`, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split(':\t') as [string, string]),
  );

function kilobytes(pid: number, figure: string): number {
  const line = new RegExp(`^${figure}: +([0-9]+) kB$`, 'm').exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'));
  return Number(line?.[1]);
}

async function untilWaiting(daemon: TestDaemon): Promise<void> {
  await eventually('a machine waits', 40_000, async () => (await figuresOf(daemon))('berth_pool_machines') >= 1);
}

async function startedPid(daemon: TestDaemon, name: string): Promise<number> {
  await createVm(daemon, name, 'exec sleep 600');
  await startVm(daemon, name);
  const pid = (await inspectVm(daemon, name))?.State.Pid;
  assert.ok(pid !== undefined && pid > 0);
  return pid;
}

describe('a daemon with twins', async () => {
  const daemon = await startTestDaemon();
  after(async () => assert.deepEqual(await daemon.dispose(), [], 'nothing is left behind'));

  test('VMs of one mould are users of their own without any right, and share most of their memory', async () => {
    await untilWaiting(daemon);
    const pids = [await startedPid(daemon, 'one'), await startedPid(daemon, 'two'), await startedPid(daemon, 'three')];
    const users = new Set<string>();
    for (const pid of pids) {
      const status = statusOf(pid);
      assert.notEqual(status['PPid'], String(daemon.pid), 'a twin is not berthd’s child');
      for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb']) assert.equal(status[set], '0'.repeat(16));
      assert.equal(status['NoNewPrivs'], '1');
      assert.equal(status['Seccomp'], '2', 'QEMU’s filter of system calls is in force');
      assert.equal(status['TracerPid'], '0');
      users.add(status['Uid'] ?? '');
    }
    assert.equal(users.size, 3);
    assert.ok(![...users].some((user) => user.startsWith('0\t')));
    for (const name of ['one', 'two', 'three']) {
      assert.equal(await wayOf(daemon, name), 'pool');
      assert.equal((await execIn(daemon, name, ['hostname'])).output.length, 13);
    }
    // What three machines that started by themselves have for themselves is 50 MB each.
    for (const pid of pids) assert.ok(kilobytes(pid, 'Private_Dirty') < 25_000);
  });

  test('a size that is new gets its mould, though the pool is full of machines of another', async () => {
    for (let number = 0; number < 8; number += 1) {
      await startedPid(daemon, `many-${number}`);
      await daemon.call('DELETE', `/containers/many-${number}?force=1`);
    }
    await eventually('the pool is full', 60_000, async () => (await figuresOf(daemon))('berth_pool_machines') >= 8);
    await createVm(daemon, 'small', 'exec sleep 600', { Memory: 128 * 2 ** 20 });
    await startVm(daemon, 'small');
    await eventually('it has its mould', 60_000, async () => (await figuresOf(daemon))('berth_pool_moulds') === 2);
    await createVm(daemon, 'small-2', 'exec sleep 600', { Memory: 128 * 2 ** 20 });
    await startVm(daemon, 'small-2');
    assert.equal(await wayOf(daemon, 'small-2'), 'pool');
    await daemon.call('DELETE', '/containers/small-2?force=1');
    await daemon.call('DELETE', '/containers/small?force=1');
  });

  test('when the mould is killed the next VM starts another way, and later ones from a new mould', async () => {
    await untilWaiting(daemon);
    const logBefore = readFileSync(daemon.logPath, 'utf8').length;
    const all = await findProcesses(`${daemon.runDir}/vm/s`);
    const vms = await Promise.all(
      ['one', 'two', 'three'].map(async (name) => (await inspectVm(daemon, name))?.State.Pid),
    );
    for (const { pid } of all) if (!vms.includes(pid)) process.kill(pid, 'SIGKILL');
    await startedPid(daemon, 'four');
    assert.equal((await execIn(daemon, 'four', ['echo', 'here'])).output, 'here\n');
    await untilWaiting(daemon);
    await startedPid(daemon, 'five');
    assert.equal(await wayOf(daemon, 'five'), 'pool');
    for (const name of ['one', 'two', 'three'])
      assert.equal((await execIn(daemon, name, ['echo', 'still'])).output, 'still\n', 'they need no mould any more');
    assert.match(
      readFileSync(daemon.logPath, 'utf8').slice(logBefore),
      /could not be made from its mould|ended while it waited/,
    );
  });
});

describe('a daemon without twins', async () => {
  const daemon = await startTestDaemon({ env: { BERTH_TWINS: 'off' } });
  after(async () => assert.deepEqual(await daemon.dispose(), [], 'nothing is left behind'));

  test('the pool’s machines rehearse each for itself; forks and wakes go by copy', async () => {
    await untilWaiting(daemon);
    const pid = await startedPid(daemon, 'plain');
    assert.equal(statusOf(pid)['PPid'], String(daemon.pid));
    assert.equal(await wayOf(daemon, 'plain'), 'pool');
    const { status } = await daemon.call('POST', '/berth/v1/vms/plain/fork?name=child');
    assert.equal(status, 201);
    assert.equal((await execIn(daemon, 'child', ['echo', 'hi'])).output, 'hi\n');
    for (let round = 0; round < 2; round += 1) {
      assert.equal((await daemon.call('POST', '/berth/v1/vms/plain/sleep')).status, 204);
      assert.equal((await execIn(daemon, 'plain', ['echo', 'awake'])).output, 'awake\n');
    }
  });
});

describe('a daemon without templates', async () => {
  const daemon = await startTestDaemon({ env: { BERTH_TEMPLATES: 'off' } });
  after(async () => assert.deepEqual(await daemon.dispose(), [], 'nothing is left behind'));

  test('a VM that booted its kernel has a memory others could map: it is forked by copy', async () => {
    await startedPid(daemon, 'booted');
    assert.equal(await wayOf(daemon, 'booted'), 'boot');
    assert.equal((await daemon.call('POST', '/berth/v1/vms/booted/fork?name=copied')).status, 201);
    assert.equal((await execIn(daemon, 'copied', ['echo', 'hi'])).output, 'hi\n');
  });
});
