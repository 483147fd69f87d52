/** What every driver must do, asked of its real thing. `world` says how that is changed and looked at from outside. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BerthError, type ErrorKind } from '#base';
import { COUNTERS } from './consumption/counting.ts';
import type {
  DriverSession,
  FleetDriver,
  HostPeriod,
  PeriodFacet,
  SourceTarget,
  VmChange,
  VmPeriod,
} from './driver.ts';
import type { HypervisorHost, PowerState, VmFacts } from './facts.ts';

export interface SeenFromOutside {
  readonly nativeId: string;
  readonly name: string;
  readonly powerState: PowerState;
}

/** A real hypervisor, worked on with its own tools. */
export interface DriverWorld {
  readonly driver: FleetDriver;
  readonly target: SourceTarget;
  /** Somewhere nobody listens. */
  readonly deadUrl: URL;
  look(): Promise<readonly SeenFromOutside[]>;
  /**
   * True where a VM that does not run is not known to the hypervisor itself (Xen's xl): `create` then only prepares it, it
   * appears with `start`, is gone with `stop`, and no power verb starts it.
   */
  readonly forgetsStopped?: boolean;
  /** True where a VM that does not run belongs to a pool, and to none of its hosts (XAPI). */
  readonly offIsNowhere?: boolean;
  /** True where memory is written away instead of kept (vSphere). */
  readonly pausesToDisk?: boolean;
  /** A VM of this name that does not run. */
  create(name: string): Promise<void>;
  start(name: string): Promise<void>;
  stop(name: string): Promise<void>;
  remove(name: string): Promise<void>;
  /** Ends the hypervisor's service at once; the suite's last act. */
  crash(): Promise<void>;
  /** True where nothing runs, and no processor time is told (libvirt's test driver). */
  readonly tellsNoTime?: boolean;
  /** False where the hypervisor does not tell what its hosts used. */
  readonly measuresHosts: boolean;
  /** The longest that a change made from outside may take to be heard. */
  readonly eventDeadlineMs: number;
}

const patience = (): AbortSignal => AbortSignal.timeout(30_000);

export async function snapshotOf(session: DriverSession): Promise<{ hosts: HypervisorHost[]; vms: VmFacts[] }> {
  const hosts: HypervisorHost[] = [];
  const vms: VmFacts[] = [];
  for await (const page of session.snapshot(patience())) {
    hosts.push(...page.hosts);
    vms.push(...page.vms);
  }
  return { hosts, vms };
}

/** @param start - brings the world up, once for the suite. */
export function driverConformance(start: () => Promise<DriverWorld>): void {
  let world: DriverWorld;
  const open = (target: SourceTarget = world.target): Promise<DriverSession> => world.driver.open(target, patience());

  before(async () => {
    world = await start();
  });

  const withSession = async (work: (session: DriverSession) => Promise<void>, allowPower = false): Promise<void> => {
    const session = await open({ ...world.target, allowPower });
    try {
      await work(session);
    } finally {
      await session.close();
    }
  };

  const idOf = async (name: string): Promise<string | undefined> =>
    (await world.look()).find((vm) => vm.name === name)?.nativeId;

  test('the fingerprint names the product, its version and its endpoint', () =>
    withSession(async (session) => {
      const { product, version, endpoint } = await session.fingerprint();
      assert.ok(product.length > 0 && endpoint.length > 0);
      assert.match(version, /[0-9]/);
    }));

  test('a snapshot has the VMs that the hypervisor itself lists, each on a host that is in it', () =>
    withSession(async (session) => {
      await world.create('conform-listed');
      if (world.forgetsStopped === true) await world.start('conform-listed');
      const { hosts, vms } = await snapshotOf(session);
      const seen = vms.map(({ nativeId, name, powerState }) => ({ nativeId, name, powerState }));
      const expected = (await world.look()).map(({ nativeId, name, powerState }) => ({ nativeId, name, powerState }));
      const byId = (a: SeenFromOutside, b: SeenFromOutside): number => (a.nativeId < b.nativeId ? -1 : 1);
      assert.deepEqual(seen.sort(byId), expected.sort(byId));
      assert.ok(seen.some((vm) => vm.name === 'conform-listed'));
      for (const vm of vms) {
        const isNowhere = world.offIsNowhere === true && vm.powerState === 'off' && vm.hostId === null;
        const isListed = hosts.some((host) => host.nativeId === vm.hostId);
        assert.ok(isListed || isNowhere, `${vm.name} is on ${vm.hostId}`);
      }
      for (const host of hosts) assert.ok((host.threads ?? 0) > 0 && (host.memoryBytes ?? 0) > 0, JSON.stringify(host));
      for (const vm of vms) assert.ok((vm.vcpus ?? 0) > 0 && (vm.memoryBytes ?? 0) > 0, JSON.stringify(vm));
      if (world.forgetsStopped === true) await world.stop('conform-listed');
      await world.remove('conform-listed');
    }));

  test('two snapshots of an estate that did not change are the same', () =>
    withSession(async (session) => {
      const [one, two] = [await snapshotOf(session), await snapshotOf(session)];
      assert.deepEqual(two.vms, one.vms);
    }));

  test('what happens to a VM is heard, in its order, and soon', () =>
    withSession(async (session) => {
      if (session.events === undefined) return assert.ok((await session.fingerprint()).limits.length > 0);
      const changes = new Changes();
      await world.create('conform-events');
      const stop = await session.events.watch((change) => changes.add(change));
      const began = performance.now();
      await world.start('conform-events');
      const id = await idOf('conform-events');
      await changes.until('running', (one) => powerOf(one, id) === 'running', world.eventDeadlineMs);
      const heardMs = performance.now() - began;
      await world.stop('conform-events');
      const isOff = (one: VmChange): boolean => powerOf(one, id) === 'off';
      const isGone = (one: VmChange): boolean => one.kind === 'gone' && one.nativeId === id;
      if (world.forgetsStopped !== true) await changes.until('off', isOff, world.eventDeadlineMs);
      await world.remove('conform-events');
      await changes.until('gone', isGone, world.eventDeadlineMs);
      const ran = changes.all.findIndex((one) => powerOf(one, id) === 'running');
      const ended = changes.all.findLastIndex((one) => (world.forgetsStopped === true ? isGone(one) : isOff(one)));
      assert.ok(ran < ended, `${JSON.stringify(changes.all)} after ${heardMs} ms`);
      await stop();
      const before = changes.all.length;
      await world.create('conform-unheard');
      if (world.forgetsStopped === true) await world.start('conform-unheard');
      await session.fingerprint();
      assert.equal(changes.all.length, before, 'nothing comes after the watch has ended');
      if (world.forgetsStopped === true) await world.stop('conform-unheard');
      await world.remove('conform-unheard');
    }));

  test('a session that may change nothing has no power verbs', () =>
    withSession(async (session) => assert.equal(session.power, undefined)));

  test('power verbs do what they say, seen from outside', () =>
    withSession(async (session) => {
      const { power } = session;
      if (power === undefined) throw new Error('a session that may change things has power verbs');
      await world.create('conform-power');
      const state = async (): Promise<PowerState | undefined> =>
        (await world.look()).find((vm) => vm.name === 'conform-power')?.powerState;
      if (world.forgetsStopped === true) await world.start('conform-power');
      const id = (await idOf('conform-power')) ?? '';
      if (world.forgetsStopped === true) assert.ok(!power.verbs.includes('start'));
      else {
        if (power.verbs.includes('resume')) {
          await refused(() => power.act('resume', id), ['conflict', 'invalid', 'unavailable', 'unsupported']);
          assert.equal(await state(), 'off', 'what is off is started by start alone');
        }
        await power.act('start', id);
      }
      await eventually(async () => assert.equal(await state(), 'running'));
      if (power.verbs.includes('pause')) {
        await power.act('pause', id);
        await eventually(async () => assert.equal(await state(), world.pausesToDisk === true ? 'suspended' : 'paused'));
        await power.act('resume', id);
        await eventually(async () => assert.equal(await state(), 'running'));
      }
      await power.act('stop', id);
      await eventually(async () => assert.equal(await state(), world.forgetsStopped === true ? undefined : 'off'));
      await world.remove('conform-power');
      await refused(() => power.act(world.forgetsStopped === true ? 'pause' : 'start', id), ['not_found']);
    }, true));

  test('counters are of running VMs and never go back', () =>
    withSession(async (session) => {
      if (session.samples === undefined) return;
      await world.create('conform-samples');
      await world.start('conform-samples');
      const first = await session.samples.read();
      const second = await session.samples.read();
      const running = (await world.look()).filter((vm) => vm.powerState === 'running').map((vm) => vm.nativeId);
      assert.deepEqual(second.map((one) => one.nativeId).sort(), running.sort());
      for (const later of second) {
        const earlier = first.find((one) => one.nativeId === later.nativeId);
        assert.equal(later.run, earlier?.run);
        for (const key of COUNTERS) {
          assert.equal(later[key] === null, earlier?.[key] === null, `${key} is told or not`);
          assert.ok((later[key] ?? 0n) >= (earlier?.[key] ?? 0n), `${key} of ${later.nativeId}`);
        }
        assert.equal(later.cpuNanoseconds === null, world.tellsNoTime === true, `processor time of ${later.nativeId}`);
      }
      await world.stop('conform-samples');
      await world.remove('conform-samples');
    }));

  test('what hosts used is of hosts in the snapshot, and their time never goes back', () =>
    withSession(async (session) => {
      const { hostSamples, periods } = session;
      assert.equal(hostSamples !== undefined || periods !== undefined, world.measuresHosts);
      const hosts = new Set((await snapshotOf(session)).hosts.map((host) => host.nativeId));
      if (hostSamples !== undefined) {
        const [first, second] = [await hostSamples.read(), await hostSamples.read()];
        assert.deepEqual(new Set(second.map((one) => one.nativeId)), hosts);
        for (const later of second) {
          const earlier = first.find((one) => one.nativeId === later.nativeId);
          assert.equal(later.run, earlier?.run);
          assert.ok((later.cpuNanoseconds ?? 0n) >= (earlier?.cpuNanoseconds ?? 0n) && later.cpuNanoseconds !== null);
          assert.ok(later.memoryUsedBytes !== null && later.memoryUsedBytes > 0n);
        }
      } else if (periods !== undefined) {
        const told = (await periodsSince(periods, Date.now() - 600_000)).hosts;
        assert.ok(told.length > 0 && told.every((one) => hosts.has(one.nativeId)));
        assert.ok(told.every((one) => one.cpuNanoseconds !== null && (one.memoryUsedBytes ?? 0n) > 0n));
      }
    }));

  test('closing ends the session without an error, and calls on it fail instead of hanging', async () => {
    const session = await open();
    await session.close();
    await session.close();
    assert.equal(await session.ended, undefined);
    await refused(() => session.fingerprint(), ['unavailable', 'cancelled']);
  });

  test('nobody there, or no patience: open fails with the reason', async () => {
    await refused(() => open({ ...world.target, url: world.deadUrl }), ['unavailable', 'timeout']);
    const gone = AbortSignal.abort(new BerthError('cancelled', 'test.cancelled', 'no patience'));
    await refused(() => world.driver.open(world.target, gone), ['cancelled']);
  });

  test('a hypervisor that dies ends the session with the reason', async () => {
    const session = await open();
    await world.crash();
    const failure = await Promise.race([session.ended, session.fingerprint().catch((error: unknown) => error)]);
    assert.ok(failure instanceof BerthError && failure.kind === 'unavailable', String(failure));
    await session.close();
  });

  after(() => world?.crash());
}

async function refused(work: () => Promise<unknown>, kinds: readonly ErrorKind[]): Promise<void> {
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof BerthError, String(error));
    assert.ok(kinds.includes(error.kind), `${error.kind}: ${error.message}`);
    return true;
  });
}

function powerOf(change: VmChange, id: string | undefined): PowerState | undefined {
  if (change.kind === 'power' && change.nativeId === id) return change.powerState;
  return change.kind === 'seen' && change.vm.nativeId === id ? change.vm.powerState : undefined;
}

/** Changes as they come, and the wait for one. */
class Changes {
  readonly all: VmChange[] = [];
  #rouse: () => void = () => {};

  add(change: VmChange): void {
    this.all.push(change);
    this.#rouse();
  }

  async until(what: string, isIt: (change: VmChange) => boolean, deadlineMs: number): Promise<void> {
    const late = AbortSignal.timeout(deadlineMs);
    while (!this.all.some(isIt)) {
      if (late.aborted) throw new Error(`${what} was not heard within ${deadlineMs} ms: ${JSON.stringify(this.all)}`);
      await new Promise<void>((resolve) => {
        this.#rouse = resolve;
        late.addEventListener('abort', () => resolve(), { once: true });
      });
    }
  }
}

async function eventually(check: () => Promise<void>): Promise<void> {
  const until = performance.now() + 10_000;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() > until) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Everybody's periods that ended since then, all pages together. */
export async function periodsSince(
  periods: PeriodFacet,
  sinceMs: number,
): Promise<{ running: string[]; periods: VmPeriod[]; hosts: HostPeriod[] }> {
  const all = { running: [] as string[], periods: [] as VmPeriod[], hosts: [] as HostPeriod[] };
  for await (const page of periods.read({ vms: () => sinceMs, hosts: () => sinceMs })) {
    all.running.push(...page.running);
    all.periods.push(...page.periods);
    all.hosts.push(...page.hosts);
  }
  return all;
}
