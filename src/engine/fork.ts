/**
 * Forks of a running VM: its memory, devices and disk at one moment, for several VMs to go on from.
 *
 *     parent    runs ── frozen ── stopped: devices and memory copied, disk copied ── runs, thawed
 *     children  QEMU starts, waits ─────────────────────────────────────────────── filled ── identified ── thawed
 *
 * Memory goes into one sealed memfd that all children map privately: a page is copied once, and again by whoever writes to
 * it. What of the parent's processes runs in a child runs after the child has its own name, address and random numbers.
 */
import { randomBytes } from 'node:crypto';
import { BerthError, messageOf, shortId } from '#base';
import { files } from '#platform';
import type { RunningMachine } from './machine.ts';
import type { VmRecord, VmSpec } from './model.ts';
import type { RunSource } from './run-source.ts';
import { copySparse, MemoryHolder } from './templates/index.ts';
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

export interface ForkWorkshop {
  readonly memoryProgram: string;
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
  const { machine, spec, uid } = requireRunning(parent);
  const stateFile = `${machine.folder}/fork-${randomBytes(6).toString('hex')}`;
  const memoryName = `berth-fork ${shortId(parent.record.id)}`;
  const [holder, children] = await Promise.all([
    MemoryHolder.hold(workshop.memoryProgram, spec.memoryBytes, memoryName),
    makeAll(names, specOfFork(parent.record), workshop),
    writeEmpty(stateFile, 0, uid),
  ]);
  try {
    const filling = Promise.withResolvers<void>();
    filling.promise.catch(() => {});
    const memory = { path: holder.path, sealed: false };
    const source: RunSource = { origin: 'fork', memory, stateFile, ready: filling.promise };
    const starts = children.map((child) => child.startFrom(source));
    for (const start of starts) start.catch(() => {});
    const disks = children.map((child) => child.diskPath);
    const copy = async (original: RunningMachine): Promise<void> => {
      await original.saveDevices(stateFile);
      await Promise.all([
        holder.fill(original.identity.pid, await original.memoryRange()),
        copySparse(workshop.memoryProgram, parent.diskPath, disks),
      ]);
      filling.resolve();
    };
    // What fails after the copy is the parent's trouble, and is told when no fork runs.
    const copied = parent.whileFrozen({ flush: false, end: false }, copy).catch((error: unknown) => {
      filling.reject(error);
      return error;
    });
    const [outcomes] = await Promise.all([Promise.allSettled(starts), copied]);
    const failures = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []));
    const vms = children.filter((_, index) => outcomes[index]?.status === 'fulfilled');
    if (vms.length === 0) throw failures[0];
    return { vms, failures: failures.map(messageOf) };
  } finally {
    await holder.end();
    await files.rm(stateFile, { force: true });
  }
}

function requireRunning(parent: Vm): { machine: NonNullable<VmRecord['machine']>; spec: VmSpec; uid: number } {
  const { state, machine, name, spec, uid } = parent.record;
  if (state.name === 'paused') {
    throw new BerthError('conflict', 'vm.paused', `VM ${name} is paused and cannot be forked`, {
      hint: `run "berth unpause ${name}" first`,
    });
  }
  if (state.name !== 'running' || machine === undefined) {
    throw new BerthError('conflict', 'vm.not_running', `VM ${name} is not running and cannot be forked`);
  }
  parent.link();
  return { machine, spec, uid };
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

/** A file of that many zeros which the user `uid` may write. */
export async function writeEmpty(path: string, bytes: number, uid: number | undefined): Promise<void> {
  const handle = await files.open(path, 'wx', 0o600);
  try {
    await handle.truncate(bytes);
    if (uid !== undefined && uid !== 0) await handle.chown(uid, uid);
  } finally {
    await handle.close();
  }
}
