/** Machines that wait for a VM: replaced when they end, never given where they do not belong, and nobody's before. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { isAlive, processInfo, runProcess } from '#platform';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { figuresOf } from '../harness/metrics.ts';
import { waitingMachines, wayOf } from '../harness/supply.ts';
import { createVm, eventually, execIn, inspectVm, startVm } from '../harness/vm-client.ts';

const MIB = 2 ** 20;
let daemon: TestDaemon;

before(async () => {
  daemon = await startTestDaemon({ env: { BERTH_POOL: '2' } });
});

after(async () => {
  assert.deepEqual(await daemon.dispose(), [], 'nothing is left behind');
});

async function untilWaiting(least: number): Promise<number[]> {
  return await eventually(`${least} machines wait`, 40_000, async () => {
    const waiting = (await figuresOf(daemon))('berth_pool_machines');
    const pids = await waitingMachines(daemon);
    return waiting >= least && pids.length >= waiting && pids;
  });
}

test('a machine that is killed while it waits is not given out, and another takes its place', async () => {
  const pids = await untilWaiting(1);
  for (const pid of pids) process.kill(pid, 'SIGKILL');
  await createVm(daemon, 'prompt', 'exec sleep 600');
  await startVm(daemon, 'prompt');
  assert.equal((await execIn(daemon, 'prompt', ['echo', 'alive'])).output, 'alive\n');
  await daemon.call('DELETE', '/containers/prompt?force=1');
  for (const pid of await untilWaiting(1)) assert.ok(!pids.includes(pid));

  // Nothing starts: it is replaced all the same.
  const later = await untilWaiting(2);
  for (const pid of later) process.kill(pid, 'SIGKILL');
  await eventually('they are counted no more', 10_000, async () => {
    return (await Promise.all(later.map(processInfo))).every((info) => info === undefined);
  });
  for (const pid of await untilWaiting(1)) assert.ok(!later.includes(pid));
  assert.match(readFileSync(daemon.logPath, 'utf8'), /a machine of the pool ended while it waited: QEMU/);
});

test('a VM without a network takes none: its guest shows only lo', async () => {
  const before = await untilWaiting(1);
  await createVm(daemon, 'lonely', 'exec sleep 600', { NetworkMode: 'none' });
  await startVm(daemon, 'lonely');
  assert.equal(await wayOf(daemon, 'lonely'), 'clone');
  assert.ok(!before.includes((await inspectVm(daemon, 'lonely'))?.State.Pid ?? 0));
  assert.equal((await execIn(daemon, 'lonely', ['ls', '/sys/class/net'])).output, 'lo\n');
  assert.equal((await execIn(daemon, 'lonely', ['sh', '-c', 'ip route; ip -o link | wc -l'])).output, '1\n');
  await daemon.call('DELETE', '/containers/lonely?force=1');
});

test('a VM started ten times, from the pool where it can be, has its own data every time, on a clean disk', async () => {
  const id = await createVm(
    daemon,
    'keeper',
    'echo run >> /data; head -c 300000 /dev/urandom > /blob; md5sum /blob >> /sums; exec sleep 600',
  );
  const ways = new Map<string, number>();
  for (let round = 1; round <= 10; round += 1) {
    if (round % 2 === 1) await untilWaiting(1);
    await startVm(daemon, 'keeper');
    const way = await wayOf(daemon, 'keeper');
    ways.set(way, (ways.get(way) ?? 0) + 1);
    await eventually(`${round} lines`, 20_000, async () => {
      const { output } = await execIn(daemon, 'keeper', ['wc', '-l', '/data', '/sums']);
      return new RegExp(`${round} /data\\n +${round} /sums`).test(output);
    });
    const { output } = await execIn(daemon, 'keeper', ['sh', '-c', 'tail -n1 /sums | md5sum -c; ls /; hostname']);
    assert.match(output, /blob: OK/);
    assert.doesNotMatch(output, /rehearsal/);
    assert.ok(output.includes(id.slice(0, 12)));
    assert.equal((await daemon.call('POST', '/containers/keeper/stop?t=5&signal=KILL')).status, 204);
  }
  assert.ok((ways.get('pool') ?? 0) >= 5 && !ways.has('boot'), JSON.stringify([...ways]));
  const disk = join(daemon.stateDir, 'vms', id, 'data.img');
  const checked = await runProcess(['/sbin/e2fsck', '-fn', disk]);
  assert.equal(checked.exitCode, 0, checked.stdout);
  await daemon.call('DELETE', '/containers/keeper?force=1');
});

test('each size has machines of its own: the guest has the memory and processors it was promised', async () => {
  for (const [name, host] of Object.entries({
    small: { Memory: 128 * MIB },
    large: { Memory: 512 * MIB, NanoCpus: 2e9 },
  })) {
    // Asked for once, the size is in demand.
    for (let round = 0; round < 2; round += 1) {
      await createVm(daemon, name, 'exec sleep 600', host);
      await startVm(daemon, name);
      const { output } = await execIn(daemon, name, ['sh', '-c', 'grep MemTotal /proc/meminfo; nproc']);
      const kilobytes = Number(/MemTotal: +([0-9]+) kB/.exec(output)?.[1]);
      assert.ok(kilobytes < host.Memory / 1024 && kilobytes > host.Memory / 1024 - 60_000, `${name}: ${output}`);
      assert.equal(output.split('\n')[1], 'NanoCpus' in host ? '2' : '1');
      await daemon.call('DELETE', `/containers/${name}?force=1`);
    }
  }
});

test('VMs that start from the pool while others are made never share a user', async () => {
  // One that was started is demand for one more.
  await createVm(daemon, 'demand', 'true');
  await startVm(daemon, 'demand');
  await daemon.call('DELETE', '/containers/demand?force=1');
  await untilWaiting(2);
  const names = Array.from({ length: 24 }, (_, index) => `user${index}`);
  await Promise.all(names.slice(0, 3).map((name) => createVm(daemon, name, 'exec sleep 600')));
  await Promise.all([
    ...names.slice(0, 3).map((name) => startVm(daemon, name)),
    ...names.slice(3).map((name) => createVm(daemon, name, 'true')),
  ]);
  const uids = await Promise.all(names.map(async (name) => (await inspectVm(daemon, name))?.Berth.Uid));
  assert.equal(new Set(uids).size, names.length, uids.join(' '));
  await Promise.all(names.map((name) => daemon.call('DELETE', `/containers/${name}?force=1`)));
});

test('a daemon that crashes leaves its waiting machines to nobody', async () => {
  const pids = await untilWaiting(1);
  const named = (await Promise.all(pids.map(processInfo))).filter((info) => info !== undefined);
  await daemon.crash();
  await daemon.start();
  for (const one of named) assert.equal(await isAlive(one), false);
  assert.deepEqual(await daemon.leaks(), []);
  await untilWaiting(1);
});
