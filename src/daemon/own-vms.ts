/** The engine's VMs as the fleet's driver for berth itself asks for them. */
import { BerthError } from '#base';
import { type Engine, isUp, type Vm, type VmState, type VmUsage } from '#engine';
import { type OwnVms, ownMachineUuid, type PowerVerb } from '#fleet';
import { files, hostFacts, hostUptimeMs, nowMs, readHostUse, startTimer } from '#platform';
import type { Volumes } from '#storage';

const POWER_OF: Readonly<Record<VmState['name'], string>> = {
  created: 'off',
  starting: 'running',
  running: 'running',
  paused: 'paused',
  asleep: 'suspended',
  waking: 'suspended',
  ending: 'stopping',
  exited: 'off',
  removing: 'stopping',
  dead: 'off',
};
/** SIGKILL. */
const KILL = 9;

/** Tells listeners which own VMs may have changed, once the engine is done with what it is doing to them. */
export class OwnVmNews {
  readonly #listeners = new Set<(nativeId: string) => void>();
  readonly #waiting = new Set<string>();

  listen(listener: (nativeId: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  tell(nativeId: string): void {
    if (this.#waiting.size === 0) startTimer(0, () => this.#flush());
    this.#waiting.add(nativeId);
  }

  #flush(): void {
    const ids = [...this.#waiting];
    this.#waiting.clear();
    for (const id of ids) for (const listener of this.#listeners) listener(id);
  }
}

export interface OwnVmParts {
  readonly engine: Engine;
  readonly volumes: Volumes;
  readonly news: OwnVmNews;
  readonly version: string;
  readonly qemuVersion: string;
}

export async function ownVms({ engine, volumes, news, version, qemuVersion }: OwnVmParts): Promise<OwnVms> {
  const host = hostFacts();
  const bootedAtMs = nowMs() - (await hostUptimeMs());
  const uuid = await ownMachineUuid();
  const diskBytes = await diskSizes(engine);
  const disksIn = (owners: ReadonlyMap<string, Vm>) => (vm: Vm) =>
    (vm.record.spec.volumes ?? [])
      .filter(({ volume }) => owners.get(volume) === vm && volumes.has(volume))
      .map(({ volume }) => ({ name: volume, path: volumes.diskOf(volume), bytes: volumes.get(volume).sizeBytes }));
  const actions: Readonly<Partial<Record<PowerVerb, (vm: Vm) => Promise<void>>>> = {
    start: (vm) => vm.start(),
    stop: (vm) => vm.kill(KILL),
    shutdown: (vm) => vm.stop(),
    reboot: (vm) => vm.restart({}),
    pause: (vm) => vm.pause(),
    resume: (vm) => vm.unpause(),
  };
  return {
    version,
    host: () => ({
      nativeId: host.hostName,
      name: host.hostName,
      uuid,
      cpuModel: host.cpuModel,
      threads: host.cpus,
      memoryBytes: host.memoryBytes,
      hypervisor: 'QEMU',
      hypervisorVersion: qemuVersion,
      architecture: host.architecture,
      uptimeSeconds: Math.round((nowMs() - bootedAtMs) / 1_000),
    }),
    list: function* () {
      const volumesOf = disksIn(ownersOfVolumes(engine.list()));
      for (const vm of engine.list()) yield factsOf(vm, { hostName: host.hostName, diskBytes, volumesOf });
    },
    find: (nativeId) => {
      const vm = engine.get(nativeId);
      if (vm === undefined) return undefined;
      const users = (vm.record.spec.volumes ?? []).flatMap(({ volume }) => engine.usersOf(volume));
      return factsOf(vm, { hostName: host.hostName, diskBytes, volumesOf: disksIn(ownersOfVolumes(users)) });
    },
    onChange: (listener) => news.listen(listener),
    verbs: Object.keys(actions) as PowerVerb[],
    act: async (verb, nativeId) => {
      const vm = engine.get(nativeId);
      if (vm === undefined)
        throw new BerthError('not_found', 'vm.not_found', `berth has no VM ${nativeId.slice(0, 12)}`);
      await actions[verb]?.(vm);
    },
    samples: () => samplesOf(engine.list().filter((vm) => isUp(vm.record.state))),
    hostSamples: async () => {
      const { bootId, upMs, cpuNanoseconds, memoryUsedBytes } = await readHostUse();
      const atMs = nowMs();
      const began = { run: bootId, beganMs: atMs - upMs };
      return [{ nativeId: host.hostName, atMs, ...began, cpuNanoseconds, cpuHoldsVms: true, memoryUsedBytes }];
    },
  };
}

/** Sizes of writable disks do not change: read once for each VM. */
async function diskSizes(engine: Engine): Promise<(vm: Vm) => number | null> {
  const known = new Map<string, number>();
  const read = async (vm: Vm): Promise<void> => {
    const facts = await files.stat(vm.diskPath).catch(() => undefined);
    if (facts !== undefined) known.set(vm.record.id, facts.size);
  };
  await Promise.all(engine.list().map(read));
  return (vm) => {
    const asked = vm.record.spec.diskBytes;
    return known.get(vm.record.id) ?? (asked > 0 ? asked : null);
  };
}

interface Place {
  readonly hostName: string;
  readonly diskBytes: (vm: Vm) => number | null;
  readonly volumesOf: (vm: Vm) => readonly { readonly name: string; readonly path: string; readonly bytes: number }[];
}

/** A volume is one VM's, so that it is counted once: of the one that is up with it, else of the oldest that wants it. */
function ownersOfVolumes(vms: readonly Vm[]): Map<string, Vm> {
  const owners = new Map<string, Vm>();
  const isBefore = (one: Vm, other: Vm): boolean =>
    isUp(one.record.state) === isUp(other.record.state)
      ? one.record.createdAtMs < other.record.createdAtMs
      : isUp(one.record.state);
  for (const vm of vms) {
    for (const { volume } of vm.record.spec.volumes ?? []) {
      const known = owners.get(volume);
      if (known === undefined || isBefore(vm, known)) owners.set(volume, vm);
    }
  }
  return owners;
}

function factsOf(vm: Vm, place: Place): Record<string, unknown> {
  const { record } = vm;
  const { spec, network } = record;
  const nic =
    network === undefined
      ? []
      : [{ mac: network.mac, network: network.bridge, model: 'virtio-net', addresses: [network.address] }];
  return {
    nativeId: record.id,
    // Clones of one template have one UUID in common: it identifies nothing.
    uuid: null,
    name: record.name,
    powerState: POWER_OF[record.state.name],
    hostId: place.hostName,
    vcpus: spec.vcpus,
    memoryBytes: spec.memoryBytes,
    disks: [
      {
        name: 'data',
        format: 'raw',
        capacityBytes: place.diskBytes(vm),
        allocatedBytes: null,
        datastore: null,
        path: vm.diskPath,
      },
      ...place.volumesOf(vm).map(({ name, path, bytes }) => ({
        name,
        format: 'raw',
        capacityBytes: bytes,
        allocatedBytes: null,
        datastore: null,
        path,
      })),
    ],
    nics: nic,
    guestOs: spec.imageReference,
    firmware: 'kernel',
    tools: isUp(record.state) ? 'guest program' : null,
    tags: Object.entries(spec.labels).map(([name, value]) => (value === '' ? name : `${name}=${value}`)),
    createdAtMs: record.createdAtMs,
    virtualization: {
      mode: 'virtio',
      accelerator: record.machine?.accelerator ?? null,
      paravirtual: ['console:virtio-serial', 'disk:virtio', 'network:virtio'],
      emulated: [],
    },
  };
}

type OwnSample = Awaited<ReturnType<OwnVms['samples']>>[number];

/**
 * All that have a machine, seen from outside. Memory is the host's: what is a VM's alone, and its even part of the template's
 * pages that all clones of one shape have in common, so that the parts add up to what is taken.
 */
async function samplesOf(vms: readonly Vm[]): Promise<OwnSample[]> {
  const usages = await Promise.all(
    vms.map(async (vm) => ({ vm, usage: await vm.usageFromOutside().catch(() => undefined) })),
  );
  const groups = new Map<string, { members: number; largestBytes: number }>();
  for (const { vm, usage } of usages) {
    const bytes = usage?.memory?.templateSharedBytes ?? 0;
    if (bytes === 0) continue;
    const group = groups.get(shapeOf(vm)) ?? { members: 0, largestBytes: 0 };
    const largestBytes = Math.max(group.largestBytes, bytes);
    groups.set(shapeOf(vm), { members: group.members + 1, largestBytes });
  }
  return usages.flatMap(({ vm, usage }) => {
    // Its process is gone: what is left of it says 0, which no machine that runs ever does.
    if (usage === undefined || usage.cpuUserNs + usage.cpuSystemNs === 0) return [];
    const group = (usage.memory?.templateSharedBytes ?? 0) > 0 ? groups.get(shapeOf(vm)) : undefined;
    const sharedBytes = group === undefined ? 0 : group.largestBytes / group.members;
    return [sampleOf(vm, usage, sharedBytes)];
  });
}

/** Clones have their template in common exactly when their shape is the same. */
function shapeOf({ record: { spec } }: Vm): string {
  return `${spec.vcpus}/${spec.memoryBytes}`;
}

function sampleOf(vm: Vm, usage: VmUsage, sharedBytes: number): OwnSample {
  const { machine, id } = vm.record;
  const whole = (value: number | undefined): bigint | null => (value === undefined ? null : BigInt(Math.trunc(value)));
  const sum = (key: 'readBytes' | 'writtenBytes' | 'readOperations' | 'writeOperations'): bigint =>
    usage.disks.reduce((total, disk) => total + BigInt(disk[key]), 0n);
  return {
    nativeId: id,
    atMs: usage.atMs,
    run: machine === undefined ? null : `${machine.pid}.${machine.startTicks}`,
    cpuNanoseconds: whole(usage.cpuUserNs + usage.cpuSystemNs),
    memoryUsedBytes: whole(usage.memory === undefined ? undefined : usage.memory.uniqueBytes + sharedBytes),
    diskReadBytes: sum('readBytes'),
    diskWrittenBytes: sum('writtenBytes'),
    diskReads: sum('readOperations'),
    diskWrites: sum('writeOperations'),
    receivedBytes: whole(usage.network?.received.bytes),
    sentBytes: whole(usage.network?.sent.bytes),
  };
}
