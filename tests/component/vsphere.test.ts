/** The vSphere driver against vcsim, with govmomi's client as the outside view. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type SourceTarget, vsphereDriver } from '#fleet';
import { ConsumptionTable } from '../../src/fleet/consumption/consumption-table.ts';
import { HostConsumptionTable } from '../../src/fleet/consumption/host-consumption-table.ts';
import { type DriverWorld, driverConformance, periodsSince, snapshotOf } from '../../src/fleet/driver.conformance.ts';
import type { DriverSession, PeriodFacet, VmChange, VmPeriod } from '../../src/fleet/driver.ts';
import { Inventory } from '../../src/fleet/inventory/inventory.ts';
import { SourceTable } from '../../src/fleet/inventory/sources.ts';
import { liveFigures } from '../../src/fleet/live-figures.ts';
import { type RunningVcsim, startVcsim, VCSIM_CREDENTIALS } from '../harness/vcsim.ts';
import { eventually } from '../harness/vm-client.ts';

const POWER = { poweredOn: 'running', poweredOff: 'off', suspended: 'suspended' } as const;

function targetOf(vcsim: RunningVcsim, changes: Partial<SourceTarget> = {}): SourceTarget {
  return { name: 'vc', url: vcsim.url, pin: vcsim.pin, credentials: VCSIM_CREDENTIALS, allowPower: false, ...changes };
}

async function world(): Promise<DriverWorld> {
  const vcsim = await startVcsim(2, 2);
  return {
    driver: vsphereDriver,
    target: targetOf(vcsim),
    pausesToDisk: true,
    deadUrl: new URL('vsphere://127.0.0.1:1/'),
    look: async () =>
      (await vcsim.list()).map(({ id, name, power }) => ({
        nativeId: id,
        name,
        powerState: POWER[power as keyof typeof POWER],
      })),
    create: async (name) => void (await vcsim.ask('create', name)),
    start: async (name) => void (await vcsim.ask('start', name)),
    stop: async (name) => void (await vcsim.ask('stop', name)),
    remove: async (name) => void (await vcsim.ask('remove', name)),
    crash: () => vcsim.kill(),
    // vcsim gathers changes for 250 ms.
    eventDeadlineMs: 5_000,
    measuresHosts: true,
  };
}

describe('vSphere (vcsim)', () => driverConformance(world));

describe('what only vSphere has', () => {
  let vcsim: RunningVcsim;

  before(async () => {
    vcsim = await startVcsim(3, 400);
  });

  after(() => vcsim.kill());

  const open = (changes: Partial<SourceTarget> = {}) =>
    vsphereDriver.open(targetOf(vcsim, changes), AbortSignal.timeout(20_000));

  test('1,200 VMs come in pages of 250, each once, with UUID, host, disks and cards', async () => {
    const session = await open();
    const sizes: number[] = [];
    for await (const page of session.snapshot(AbortSignal.timeout(60_000))) sizes.push(page.vms.length);
    assert.deepEqual(
      sizes.filter((size) => size > 0),
      [250, 250, 250, 250, 200],
    );
    const { vms, hosts } = await snapshotOf(session);
    const expected = await vcsim.list();
    const seen = vms.map((vm) => ({ id: vm.nativeId, name: vm.name, host: vm.hostId, uuid: vm.uuid }));
    const byId = (a: { id: string }, b: { id: string }): number => (a.id < b.id ? -1 : 1);
    assert.deepEqual(
      seen.sort(byId),
      expected.map(({ id, name, host, uuid }) => ({ id, name, host, uuid })).sort(byId),
    );
    assert.deepEqual(
      hosts.map((host) => host.hypervisor),
      Array(3).fill('VMware ESXi'),
    );
    const [vm] = vms;
    assert.equal(vm?.disks.length, 1);
    assert.match(vm?.disks[0]?.path ?? '', /^\[LocalDS_0\] .*\.vmdk$/);
    assert.equal(vm?.disks[0]?.datastore, 'LocalDS_0');
    assert.match(vm?.nics[0]?.mac ?? '', /^00:0c:29/);
    assert.equal(vm?.virtualization.accelerator, 'vmx');
    await session.close();
  });

  test('a look that is left at any moment leaves no failure behind that nobody takes', async () => {
    const unhandled: unknown[] = [];
    const note = (reason: unknown): void => void unhandled.push(reason);
    process.on('unhandledRejection', note);
    try {
      for (let leaveAfter = 0; leaveAfter < 40; leaveAfter++) {
        const session = await open();
        const leaving = new AbortController();
        const wait = new Promise((resolve) => setTimeout(resolve, leaveAfter));
        const left = wait.then(() => {
          leaving.abort(new Error('left'));
          return session.close();
        });
        await assert.rejects(async () => {
          for await (const _ of session.snapshot(leaving.signal));
        });
        await left;
      }
    } finally {
      process.off('unhandledRejection', note);
    }
    assert.deepEqual(unhandled, []);
  });

  test('what running VMs take just now is what vSphere measured last', async () => {
    const session = await open();
    const { vms } = await snapshotOf(session);
    const nameOf = new Map(vms.map((vm) => [vm.nativeId, vm.name]));
    const named = (nativeId: string) => ({ vm: nativeId, name: nameOf.get(nativeId) ?? '', source: 'vc', host: null });
    const measured: VmPeriod[] = [];
    const periods: PeriodFacet = {
      read: async function* (wanted) {
        for await (const page of session.periods?.read(wanted) ?? []) {
          measured.push(...page.periods);
          yield page;
        }
      },
    };
    const figures = await liveFigures(() => ({ ...session, periods }) as DriverSession, { intervalMs: 0, named });
    const running = vms.filter((vm) => vm.powerState === 'running').map((vm) => vm.nativeId);
    assert.deepEqual(figures.map((one) => one.vm).sort(), running.sort());
    for (const { vm, cpuShare, memoryUsedBytes, sentBytesPerSecond } of figures) {
      const last = measured.findLast((one) => one.nativeId === vm);
      assert.ok(last !== undefined && last.endMs > Date.now() - 60_000);
      assert.equal(cpuShare, Number(last.cpuNanoseconds) / 20e9);
      assert.equal(memoryUsedBytes, Number(last.memoryUsedBytes));
      assert.equal(sentBytesPerSecond, last.sentBytes === null ? null : Number(last.sentBytes) / 20);
    }
    await session.close();
    assert.deepEqual(await liveFigures(() => session, { intervalMs: 0, named }), []);
  });

  test('what vSphere measured in periods of 20 s is counted once, however often it is read', async () => {
    const small = await startVcsim(1, 3);
    const session = await vsphereDriver.open(targetOf(small), AbortSignal.timeout(20_000));
    try {
      if (session.periods === undefined) throw new Error('vSphere measures by itself');
      const { vms } = await snapshotOf(session);
      const inventory = Inventory.open(':memory:');
      const table = new ConsumptionTable(inventory.database);
      const fresh = { name: 'vc', url: 'vsphere://x/', driver: 'vsphere', sealedSecret: null, pin: null };
      const paces = { allowPower: false, everyMs: 30_000, sampleEveryMs: 60_000 };
      const now = Date.now();
      const sourceId = new SourceTable(inventory.database).add({ ...fresh, ...paces }, now - 600_000).id;
      const lookedMs = now - 600_000;
      inventory.apply({
        sourceId,
        observation: { kind: 'snapshot', vms, unread: [], isComplete: true },
        hosts: [],
        moment: { how: 'poll', atMs: lookedMs, observedMs: lookedMs, notBeforeMs: lookedMs },
      });
      const counted = (): bigint[] =>
        inventory.database
          .all<{ ns: string }>('SELECT CAST(SUM(cpu_ns) AS TEXT) AS ns FROM consumed GROUP BY vm_id ORDER BY vm_id')
          .map((row) => BigInt(row.ns));
      const round = { sourceId, nowMs: now, everyMs: 60_000 };
      const first = await periodsSince(session.periods, lookedMs - 120_000);
      assert.deepEqual([...first.running].sort(), vms.map((vm) => vm.nativeId).sort());
      for (const vm of vms) {
        const periods = first.periods.filter((one) => one.nativeId === vm.nativeId);
        assert.ok(periods.length >= 30, `${periods.length} periods`);
        for (const [at, one] of periods.entries()) {
          assert.equal(one.endMs - one.startMs, 20_000);
          assert.ok(at === 0 || one.startMs === periods[at - 1]?.endMs, 'one after another');
          assert.ok(one.endMs <= Date.now() + 1_000);
        }
      }
      table.takePeriods(round, first.periods);
      const sums = vms.map((vm) =>
        first.periods
          .filter((one) => one.nativeId === vm.nativeId && one.startMs >= lookedMs - 10_000)
          .reduce((sum, one) => sum + (one.cpuNanoseconds ?? 0n), 0n),
      );
      assert.deepEqual(counted().sort(), sums.sort());
      assert.ok(sums.every((sum) => sum > 0n));
      // vcsim tells other figures each time it is asked: those of periods that are known change nothing.
      table.takePeriods(
        round,
        (await periodsSince(session.periods, lookedMs)).periods.filter((one) => one.endMs <= now - 20_000),
      );
      assert.deepEqual(counted().sort(), sums.sort());
      assert.equal(inventory.database.get<{ n: number }>('SELECT COUNT(*) AS n FROM gap')?.n, 0);
      inventory.close();
    } finally {
      await session.close();
      await small.kill();
    }
  });

  test('an hour of many VMs comes in pages that memory can hold, and only of those that are wanted', async () => {
    const large = await startVcsim(2, 120);
    const session = await vsphereDriver.open(
      { name: 'x', url: large.url, pin: large.pin, allowPower: false, credentials: VCSIM_CREDENTIALS },
      AbortSignal.timeout(20_000),
    );
    try {
      const [unwanted, ...vms] = (await large.list()).map((vm) => vm.id);
      const sinceMs = Date.now() - 3_600_000;
      const vmsSince = (nativeId: string): number | undefined => (nativeId === unwanted ? undefined : sinceMs);
      const measured = new Map<string, number>();
      const running: string[] = [];
      for await (const page of session.periods?.read({ vms: vmsSince, hosts: () => undefined }) ?? []) {
        running.push(...page.running);
        assert.ok(page.periods.length <= 50 * 180 && page.hosts.length === 0, `${page.periods.length} periods`);
        for (const { nativeId } of page.periods) measured.set(nativeId, (measured.get(nativeId) ?? 0) + 1);
      }
      assert.equal(running.length, 240);
      assert.deepEqual([...measured.keys()].sort(), vms.sort());
      assert.ok([...measured.values()].every((count) => count >= 178));
    } finally {
      await session.close();
      await large.kill();
    }
  });

  test('what hosts used is what vSphere measured of each of them, in periods of 20 s without gaps, and counts once', async () => {
    const session = await open();
    if (session.periods === undefined) throw new Error('vSphere measures by itself');
    const { hosts } = await snapshotOf(session);
    const sinceMs = Date.now() - 600_000;
    const first = await periodsSince(session.periods, sinceMs);
    for (const { nativeId, threads, memoryBytes } of hosts) {
      const own = first.hosts.filter((one) => one.nativeId === nativeId);
      assert.ok(own.length >= 28, `${own.length} periods`);
      for (const [at, one] of own.entries()) {
        assert.ok(at === 0 || one.startMs === own[at - 1]?.endMs, 'one after another');
        const most = BigInt(threads ?? 0) * 20_000_000_000n;
        assert.ok(one.cpuNanoseconds !== null && one.cpuNanoseconds > 0n && one.cpuNanoseconds <= most);
        assert.ok(one.memoryUsedBytes !== null && one.memoryUsedBytes > 0n, `of ${memoryBytes}`);
      }
    }
    assert.equal(new Set(first.hosts.map((one) => one.nativeId)).size, hosts.length);
    const inventory = Inventory.open(':memory:');
    const table = new HostConsumptionTable(inventory.database);
    const fresh = { name: 'vc', url: 'vsphere://x/', driver: 'vsphere', sealedSecret: null, pin: null };
    const paces = { allowPower: false, everyMs: 30_000, sampleEveryMs: 60_000 };
    const sourceId = new SourceTable(inventory.database).add({ ...fresh, ...paces }, sinceMs).id;
    inventory.apply({
      sourceId,
      observation: { kind: 'snapshot', vms: [], unread: [], isComplete: true },
      hosts,
      moment: { how: 'poll', atMs: sinceMs, observedMs: sinceMs, notBeforeMs: sinceMs },
    });
    const counted = () =>
      inventory.database.get<{ cpu: string; seen: number }>(
        'SELECT CAST(SUM(cpu_ns) AS TEXT) AS cpu, SUM(cpu_seen_ms) AS seen FROM host_consumed',
      );
    const round = { sourceId, nowMs: Date.now(), everyMs: 60_000 };
    table.takePeriods(round, first.hosts);
    const own = first.hosts.filter((one) => one.startMs >= sinceMs - 10_000);
    const sum = own.reduce((total, one) => total + (one.cpuNanoseconds ?? 0n), 0n);
    assert.equal(counted()?.cpu, String(sum));
    const untilMs = Math.max(...own.map((one) => one.endMs));
    const seenMs = counted()?.seen ?? 0;
    assert.ok(seenMs <= hosts.length * (untilMs - sinceMs) && seenMs > hosts.length * (untilMs - sinceMs - 20_000));
    // vcsim tells other figures each time it is asked: those of periods that are known change nothing.
    const again = (await periodsSince(session.periods, sinceMs)).hosts;
    table.takePeriods(
      round,
      again.filter((one) => one.endMs <= untilMs),
    );
    assert.equal(counted()?.cpu, String(sum));
    inventory.close();
    await session.close();
  });

  test('a certificate nobody signed is refused with its fingerprint, a pinned one is taken, another pin is not', async () => {
    await assert.rejects(open({ pin: undefined }), {
      kind: 'unauthenticated',
      code: 'tls.untrusted',
      hint: new RegExp(`sha256:${vcsim.pin}`),
    });
    await assert.rejects(open({ pin: '0'.repeat(64) }), { code: 'tls.untrusted', message: new RegExp(vcsim.pin) });
    await (await open()).close();
  });

  test('a wrong password and a missing one are told apart from a server that is not there', async () => {
    await assert.rejects(open({ credentials: { user: 'operator', password: 'wrong' } }), {
      kind: 'unauthenticated',
      code: 'vsphere.login',
    });
    await assert.rejects(open({ credentials: undefined }), { kind: 'unauthenticated', code: 'vsphere.no_credentials' });
    await assert.rejects(open({ credentials: { user: '<a>&"', password: ']]>' } }), { code: 'vsphere.login' });
  });

  test('a session that the server has ended ends ours with the reason, and a new one works', async () => {
    const session = await open();
    await session.events?.watch(() => {});
    await vcsim.ask('logout');
    const failure = await snapshotOf(session).catch((error: unknown) => error);
    const { kind, code } = failure as { kind: string; code: string };
    assert.deepEqual([kind, code], ['unavailable', 'vsphere.expired']);
    assert.equal((await session.ended)?.code, 'vsphere.expired');
    const again = await open();
    assert.ok((await again.fingerprint()).version.length > 0);
    await again.close();
  });

  test('a VM that moves and is renamed is heard, with all its facts', async () => {
    const session = await open();
    const changes: VmChange[] = [];
    const stop = await session.events?.watch((change) => changes.push(change));
    const [first] = await vcsim.list();
    await vcsim.ask('move', first?.name ?? '');
    await vcsim.ask('rename', first?.name ?? '', 'renamed');
    const seen = (): VmChange | undefined =>
      changes.findLast((one) => one.kind === 'seen' && one.vm.nativeId === first?.id && one.vm.name === 'renamed');
    await eventually('the new name is heard', 5_000, async () => seen() !== undefined);
    const change = seen();
    const now = (await vcsim.list()).find((vm) => vm.id === first?.id);
    assert.notEqual(now?.host, first?.host);
    assert.ok(change?.kind === 'seen' && change.vm.hostId === now?.host && change.vm.disks.length === 1);
    await stop?.();
    await session.close();
  });

  test('what happens between a look and the beginning of a watch that is late is not missed', async () => {
    const before = await vcsim.list();
    const running = before.filter((vm) => vm.power === 'poweredOn');
    const [stopped, removed, renamed] = [running[5], running[500], running[900]];
    const session = await open();
    assert.equal(session.events?.afterLook, true);
    const { vms } = await snapshotOf(session);
    assert.equal(vms.find((vm) => vm.nativeId === stopped?.id)?.powerState, 'running');
    const changes: VmChange[] = [];
    // How all stands is answered while more of it changes.
    await vcsim.ask('delay', 'WaitForUpdatesEx', '500');
    try {
      await vcsim.ask('stop', removed?.name ?? '');
      await vcsim.ask('remove', removed?.name ?? '');
      await vcsim.ask('create', 'late-comer');
      const watching = session.events?.watch((change) => changes.push(change));
      await vcsim.ask('stop', stopped?.name ?? '');
      await vcsim.ask('rename', renamed?.name ?? '', 'new-name');
      await watching;
    } finally {
      await vcsim.ask('delay', 'none', '0');
    }
    const created = (await vcsim.list()).find((vm) => vm.name === 'late-comer');
    const last = (id: string | undefined): VmChange | undefined =>
      changes.findLast((one) => (one.kind === 'seen' ? one.vm.nativeId : one.kind !== 'missed' && one.nativeId) === id);
    // What was before it began is told when it has begun, and known not to have been heard.
    assert.deepEqual(last(removed?.id), { kind: 'gone', nativeId: removed?.id, isCompared: true });
    const come = last(created?.id);
    assert.ok(come?.kind === 'seen' && come.isCompared === true && come.vm.name === 'late-comer');
    await eventually('all of it is told', 5_000, async () => {
      const [off, other] = [stopped, renamed].map((vm) => last(vm?.id));
      const isOff = off?.kind === 'seen' && off.vm.powerState === 'off';
      return isOff && other?.kind === 'seen' && other.vm.name === 'new-name';
    });
    const told = new Set(changes.flatMap((one) => (one.kind === 'seen' ? one.vm.nativeId : [])));
    assert.ok(told.size <= 4, `${told.size} VMs were read once more: nothing happened to most of them`);
    await session.close();
  });

  test('a task that fails says so: a VM that runs cannot be started', async () => {
    const session = await open({ allowPower: true });
    const running = (await vcsim.list()).find((vm) => vm.power === 'poweredOn');
    await assert.rejects(async () => session.power?.act('start', running?.id ?? ''), {
      kind: 'conflict',
      code: 'vsphere.bad_state',
    });
    await session.close();
  });
});
