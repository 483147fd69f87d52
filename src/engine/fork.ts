/**
 * Forks of a running VM: its memory, devices and disk at one moment, for several VMs to go on from.
 *
 *     parent    runs ── frozen ── stopped: machine and disk taken ── runs, thawed
 *     children  made, wait ─────────────────────────────────────── run ── identified ── thawed
 *
 * How the machine is taken: fork-ways.ts. What of the parent's processes runs in a child runs after the child has its own
 * name, address and random numbers.
 */
import { BerthError, messageOf } from '#base';
import { type ForkPrograms, wayToFork } from './fork-ways.ts';
import type { RunningMachine } from './machine.ts';
import type { VmRecord, VmSpec } from './model.ts';
import type { RunSource } from './run-source.ts';
import { copySparse } from './templates/index.ts';
import type { Vm } from './vm.ts';

/** Each is a QEMU of its own: a typing error should not fill the host. */
const MAX_COUNT = 100;

export interface ForkRequest {
  readonly count: number;
  /** Of the one fork, or what the names of several begin with; absent: the parent's name and `-fork`. */
  readonly name: string | undefined;
}

export interface ForkOutcome {
  readonly vms: readonly Vm[];
  /** Why others do not run. */
  readonly failures: readonly string[];
}

export interface ForkWorkshop extends ForkPrograms {
  /** A VM with an empty disk that is nothing before it was started. */
  make(name: string, spec: VmSpec): Promise<Vm>;
}

/** Names nobody has. @throws fork.count (invalid) */
export function forkNames(parent: string, { count, name }: ForkRequest, taken: ReadonlySet<string>): string[] {
  if (!Number.isInteger(count) || count < 1 || count > MAX_COUNT) {
    throw new BerthError('invalid', 'fork.count', `count: ${count} is not a number of forks from 1 to ${MAX_COUNT}`);
  }
  if (name !== undefined && count === 1) return [name];
  if (name !== undefined) return Array.from({ length: count }, (_, index) => `${name}-${index + 1}`);
  const names: string[] = [];
  for (let number = 1; names.length < count; number += 1) {
    const candidate = `${parent}-fork-${number}`;
    if (!taken.has(candidate)) names.push(candidate);
  }
  return names;
}

/** What a fork is asked to be: the parent, but for what tells VMs apart. */
export function specOfFork(parent: VmRecord): VmSpec {
  const { spec } = parent;
  return {
    ...spec,
    // Empty: its own short id.
    hostname: '',
    network: { ...spec.network, mac: undefined, ports: spec.network.ports.map((port) => ({ ...port, hostPort: 0 })) },
  };
}

/** @throws vm.not_running, vm.paused (conflict); why none of the forks runs. */
export async function forkVm(parent: Vm, names: readonly string[], workshop: ForkWorkshop): Promise<ForkOutcome> {
  requireRunning(parent);
  const children = await makeAll(names, specOfFork(parent.record), workshop);
  const way = await wayToFork(parent.record, parent.diskPath, workshop);
  try {
    const source: RunSource = { origin: 'fork', obtain: (plan) => way.obtain(plan) };
    const starts = children.map((child) => child.startFrom(source));
    for (const start of starts) start.catch(() => {});
    await way.gathered(starts);
    const disks = children.map((child) => child.diskPath);
    const copy = async (original: RunningMachine): Promise<void> => {
      await original.stop();
      await Promise.all([way.take(original), copySparse(workshop.memoryProgram, parent.diskPath, disks)]);
      way.complete();
    };
    // What fails after the copy is the parent's trouble, and is told when no fork runs.
    const copied = parent.whileFrozen({ flush: false, end: false }, copy).catch((error: unknown) => {
      way.fail(error);
      return error;
    });
    const [outcomes] = await Promise.all([Promise.allSettled(starts), copied]);
    const failures = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []));
    const vms = children.filter((_, index) => outcomes[index]?.status === 'fulfilled');
    if (vms.length === 0) throw failures[0];
    return { vms, failures: failures.map(messageOf) };
  } finally {
    await way.close();
  }
}

function requireRunning(parent: Vm): void {
  const { state, machine, name } = parent.record;
  if (state.name === 'paused') {
    throw new BerthError('conflict', 'vm.paused', `VM ${name} is paused and cannot be forked`, {
      hint: `run "berth unpause ${name}" first`,
    });
  }
  if (state.name !== 'running' || machine === undefined) {
    throw new BerthError('conflict', 'vm.not_running', `VM ${name} is not running and cannot be forked`);
  }
  requireNoVolumes(parent, 'forked');
  parent.link();
}

/** @throws volume.one_writer (conflict) */
export function requireNoVolumes({ record }: Vm, what: string): void {
  const [mount] = record.spec.volumes ?? [];
  if (mount === undefined) return;
  throw new BerthError(
    'conflict',
    'volume.one_writer',
    `VM ${record.name} has the volume ${mount.volume} and cannot be ${what}: two machines would go on from one state of its file system`,
    {
      hint: 'keep what should be copied on the VM’s own disk; what is on a volume is copied by the programs that know it',
    },
  );
}

/** All or none. */
async function makeAll(names: readonly string[], spec: VmSpec, workshop: ForkWorkshop): Promise<Vm[]> {
  const made = await Promise.allSettled(names.map((name) => workshop.make(name, spec)));
  const failure = made.find((outcome) => outcome.status === 'rejected');
  const vms = made.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
  if (failure === undefined) return vms;
  for (const vm of vms) await vm.remove({ force: true });
  throw failure.reason;
}
