/**
 * berthd is killed, QEMU is killed, stopped or missing: VMs and what they wrote survive, and every end has a reason.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { createVm, eventually, execIn, inspectVm, logsOf, startVm } from '../harness/vm-client.ts';

const COUNT = 'i=0; while true; do echo "line $i"; i=$((i+1)); usleep 20000; done';
let daemon: TestDaemon;

before(async () => {
  daemon = await startTestDaemon();
});

after(async () => {
  assert.deepEqual(await daemon.dispose(), [], 'nothing is left behind');
});

function assertCounted(text: string, atLeast: number): void {
  const lines = text.split('\n').slice(0, -1);
  assert.ok(lines.length >= atLeast, `${lines.length} lines, expected at least ${atLeast}`);
  for (const [index, line] of lines.entries()) assert.equal(line, `line ${index}`, 'no line is lost or repeated');
}

test('a running VM outlives five kills of the daemon, and its output goes on without loss or repetition', async () => {
  await createVm(daemon, 'counter', COUNT);
  await startVm(daemon, 'counter');
  const pid = (await inspectVm(daemon, 'counter'))?.State.Pid;
  for (let round = 1; round <= 5; round += 1) {
    await daemon.crash();
    await new Promise((resolve) => setTimeout(resolve, 300));
    await daemon.start();
    const seen = await inspectVm(daemon, 'counter');
    assert.equal(seen?.State.Status, 'running');
    assert.equal(seen?.State.Pid, pid, 'it is the same QEMU');
    const { output, exitCode } = await execIn(daemon, 'counter', ['sh', '-c', 'echo hi; exit 4']);
    assert.deepEqual([output, exitCode], ['hi\n', 4]);
  }
  await eventually(
    '400 lines are logged',
    60_000,
    async () => (await logsOf(daemon, 'counter')).split('\n').length > 400,
  );
  assertCounted(await logsOf(daemon, 'counter'), 400);
  await daemon.call('DELETE', '/containers/counter?force=1');
});

test('a process that ends while no daemon is there keeps its output and exit code', async () => {
  await createVm(daemon, 'ender', 'read x < /dev/null; echo before; sleep 1; echo after; exit 9');
  await startVm(daemon, 'ender');
  await daemon.crash();
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  await daemon.start();
  const ended = await eventually('the VM has exited', 20_000, async () => {
    const seen = await inspectVm(daemon, 'ender');
    return seen?.State.Status === 'exited' && seen;
  });
  assert.equal(ended.State.ExitCode, 9);
  assert.equal(await logsOf(daemon, 'ender'), 'before\nafter\n');
  await daemon.call('DELETE', '/containers/ender');
});

test('a daemon killed at any moment of a start leaves a VM that runs or can be started', async () => {
  // Spread over the stages: making, spawning, booting, configuring, starting, running.
  for (const delayMs of [0, 15, 60, 300, 900, 1_400, 1_800, 2_600]) {
    const name = `early${delayMs}`;
    await createVm(daemon, name, 'echo up; sleep 600');
    const starting = daemon.call('POST', `/containers/${name}/start`).catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    await daemon.crash();
    await starting;
    await daemon.start();
    const state = await eventually(`${name} is in a state that lasts`, 60_000, async () => {
      const seen = await inspectVm(daemon, name);
      return seen !== undefined && ['created', 'running', 'exited'].includes(seen.Berth.State) && seen.Berth.State;
    });
    if (state !== 'running') await startVm(daemon, name);
    assert.equal((await execIn(daemon, name, ['echo', 'alive'])).output, 'alive\n', `killed after ${delayMs} ms`);
    await eventually(`${name} has written`, 10_000, async () => (await logsOf(daemon, name)) === 'up\n');
    assert.deepEqual(await daemon.leaks(), [], `killed after ${delayMs} ms`);
    await daemon.call('DELETE', `/containers/${name}?force=1`);
  }
});

test('a daemon killed while a VM is paused, stopping or being removed finishes what was begun', async () => {
  await createVm(daemon, 'paused', COUNT);
  await startVm(daemon, 'paused');
  await daemon.call('POST', '/containers/paused/pause');
  await daemon.crash();
  await daemon.start();
  assert.equal((await inspectVm(daemon, 'paused'))?.State.Status, 'paused');
  assert.equal((await daemon.call('POST', '/containers/paused/unpause')).status, 204);
  await eventually('it writes again', 20_000, async () => (await logsOf(daemon, 'paused')).split('\n').length > 20);
  assertCounted(await logsOf(daemon, 'paused'), 10);

  const stopping = daemon.call('POST', '/containers/paused/stop?t=30').catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 20));
  await daemon.crash();
  await stopping;
  await daemon.start();
  await eventually(
    'the stop has come through',
    20_000,
    async () => (await inspectVm(daemon, 'paused'))?.State.Status === 'exited',
  );

  const removing = daemon.call('DELETE', '/containers/paused').catch(() => undefined);
  await daemon.crash();
  await removing;
  await daemon.start();
  await daemon.call('DELETE', '/containers/paused');
  await eventually('it is gone', 20_000, async () => (await inspectVm(daemon, 'paused')) === undefined);
  assert.deepEqual(await daemon.leaks(), []);
});

test('a VM removed by force at any moment of its start is gone whole', async () => {
  for (const delayMs of [0, 5, 15, 40, 200, 1_000]) {
    await createVm(daemon, 'hasty', 'sleep 600', { PortBindings: { '80/tcp': [{ HostPort: '' }] } });
    const starting = daemon.call('POST', '/containers/hasty/start');
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    assert.equal((await daemon.call('DELETE', '/containers/hasty?force=1')).status, 204);
    // A machine from the pool runs after 50 ms: a later removal finds it started.
    const { status } = await starting;
    assert.ok(status >= 400 || (status === 204 && delayMs >= 40), `the start says that it came to nothing: ${status}`);
    await eventually(`nothing is left after ${delayMs} ms`, 10_000, async () => (await daemon.leaks()).length === 0);
  }
});

test('a killed QEMU becomes an exited VM that says so', async () => {
  await createVm(daemon, 'victim', 'sleep 600');
  await startVm(daemon, 'victim');
  const pid = (await inspectVm(daemon, 'victim'))?.State.Pid ?? 0;
  process.kill(pid, 'SIGKILL');
  const seen = await eventually('the VM has exited', 20_000, async () => {
    const now = await inspectVm(daemon, 'victim');
    return now?.State.Status === 'exited' && now;
  });
  assert.equal(seen.State.ExitCode, 137);
  assert.match(seen.State.Error, /QEMU \(pid [0-9]+\) (was ended by signal SIGKILL|ended)/);
  await startVm(daemon, 'victim');
  await daemon.call('DELETE', '/containers/victim?force=1');
});

test('a stopped QEMU is named as such, and can still be removed', async () => {
  await createVm(daemon, 'frozen', 'sleep 600');
  await startVm(daemon, 'frozen');
  const pid = (await inspectVm(daemon, 'frozen'))?.State.Pid ?? 0;
  process.kill(pid, 'SIGSTOP');
  const { status, body } = await daemon.call('POST', '/containers/frozen/pause');
  assert.equal(status, 504);
  assert.match((body as { message: string }).message, /is stopped by a signal \(SIGSTOP\)/);
  assert.equal((await daemon.call('DELETE', '/containers/frozen?force=1')).status, 204);
});

test('a VM that does not answer keeps no daemon from starting, and is taken over when it answers again', async () => {
  await createVm(daemon, 'silent', COUNT);
  await startVm(daemon, 'silent');
  const pid = (await inspectVm(daemon, 'silent'))?.State.Pid ?? 0;
  await daemon.crash();
  process.kill(pid, 'SIGSTOP');
  const began = performance.now();
  await daemon.start();
  assert.ok(performance.now() - began < 15_000, 'it serves although one VM is silent');
  assert.equal((await inspectVm(daemon, 'silent'))?.State.Status, 'running');
  const refused = await daemon.call('POST', '/containers/silent/exec', { Cmd: ['true'] });
  assert.match((refused.body as { message: string }).message, /has not answered this daemon yet|is not running/);
  await eventually('the reason is shown', 30_000, async () =>
    /SIGSTOP/.test((await inspectVm(daemon, 'silent'))?.State.Error ?? ''),
  );
  process.kill(pid, 'SIGCONT');
  await eventually('it is taken over', 40_000, async () => (await inspectVm(daemon, 'silent'))?.State.Error === '');
  assert.equal((await execIn(daemon, 'silent', ['echo', 'back'])).output, 'back\n');
  await eventually('it writes on', 20_000, async () => (await logsOf(daemon, 'silent')).split('\n').length > 100);
  assertCounted(await logsOf(daemon, 'silent'), 100);
  await daemon.call('DELETE', '/containers/silent?force=1');
});

test('a guest that powers itself off, or crashes, is told apart', async () => {
  await createVm(daemon, 'poweroff', 'poweroff -f');
  await daemon.call('POST', '/containers/poweroff/start');
  await eventually(
    'it has exited',
    20_000,
    async () => (await inspectVm(daemon, 'poweroff'))?.State.Status === 'exited',
  );
  await createVm(daemon, 'panic', 'sleep 1; echo c > /proc/sysrq-trigger; sleep 60', { Privileged: true });
  await startVm(daemon, 'panic');
  const seen = await eventually('it has exited', 30_000, async () => {
    const now = await inspectVm(daemon, 'panic');
    return now?.State.Status === 'exited' && now;
  });
  assert.equal(seen.State.ExitCode, 255);
  assert.match(seen.State.Error, /the guest crashed; last words on its console: .*panic/is);
  for (const name of ['poweroff', 'panic']) await daemon.call('DELETE', `/containers/${name}`);
});

test('a second daemon on the same state folder refuses and names the folder', () => {
  const main = new URL('../../.build/daemon/main.mjs', import.meta.url).pathname;
  const flags = ['--state-dir', daemon.stateDir, '--run-dir', `${daemon.runDir}-2`];
  const second = spawnSync(process.execPath, [main, ...flags], { encoding: 'utf8', timeout: 30_000 });
  assert.equal(second.status, 1);
  assert.match(second.stdout, /another berth daemon already uses the state folder/);
  assert.ok(second.stdout.includes(daemon.stateDir));
});

test('a state folder that QEMU cannot reach is refused at the start, with the folder in the way', () => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-closed-'));
  try {
    const main = new URL('../../.build/daemon/main.mjs', import.meta.url).pathname;
    const flags = ['--state-dir', join(folder, 'state'), '--run-dir', join(folder, 'run')];
    const refused = spawnSync(process.execPath, [main, ...flags], { encoding: 'utf8', timeout: 30_000 });
    assert.equal(refused.status, 1);
    assert.ok(refused.stdout.includes(`other users may not pass through ${folder} (mode 700)`), refused.stdout);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('QEMU runs as its own unprivileged user, with no capabilities, no new privileges and a seccomp filter', async () => {
  await createVm(daemon, 'jailed', 'sleep 600');
  await createVm(daemon, 'neighbour', 'true');
  await startVm(daemon, 'jailed');
  const seen = await inspectVm(daemon, 'jailed');
  const status = readFileSync(`/proc/${seen?.State.Pid}/status`, 'utf8');
  const field = (name: string): string => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1] ?? '';
  assert.match(field('Uid'), new RegExp(`^${seen?.Berth.Uid}\\t${seen?.Berth.Uid}`));
  assert.deepEqual(
    [field('CapEff'), field('CapPrm'), field('NoNewPrivs'), field('Seccomp'), field('Groups').trim()],
    ['0000000000000000', '0000000000000000', '1', '2', ''],
  );
  assert.notEqual(seen?.Berth.Uid, (await inspectVm(daemon, 'neighbour'))?.Berth.Uid);
  const disk = statSync(`${daemon.stateDir}/vms/${seen?.Id}/data.img`);
  assert.deepEqual([disk.uid, disk.mode & 0o777], [seen?.Berth.Uid, 0o600]);
  for (const name of ['jailed', 'neighbour']) await daemon.call('DELETE', `/containers/${name}?force=1`);
});

test('a missing QEMU is a clear error of that start, and the VM is kept', async () => {
  const without = await startTestDaemon({ env: { BERTH_QEMU: '/nonexistent/qemu-system-x86_64' } });
  try {
    await createVm(without, 'none', 'true');
    const { status, body } = await without.call('POST', '/containers/none/start');
    assert.equal(status, 500);
    assert.match((body as { message: string }).message, /\/nonexistent\/qemu-system-x86_64/);
    assert.equal((await inspectVm(without, 'none'))?.State.Status, 'created');
  } finally {
    assert.deepEqual(await without.dispose(), []);
  }
});
