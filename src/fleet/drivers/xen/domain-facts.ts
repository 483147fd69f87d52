/** From what xl and xenstore tell of a domain, and of its host, to facts. Pure. */
import { BerthError } from '#base';
import { type HypervisorHost, normalizeMac, normalizeUuid, type Virtualization, type VmFacts } from '../../facts.ts';
import type { Configuration } from './configurations.ts';
import type { DomainRow } from './listing.ts';
import type { Backend } from './xenstore.ts';

export interface DomainReading {
  readonly row: DomainRow;
  readonly configuration: Configuration;
  /** Of this domain alone. */
  readonly backends: readonly Backend[];
  /** By the place of its network card. */
  readonly addresses: ReadonlyMap<number, readonly string[]>;
  readonly hostId: string;
}

/** The number of a domain changes with every start; its UUID stays. */
export function nativeIdOf(row: DomainRow): string {
  return row.uuid ?? `domid:${row.domid}`;
}

/** @returns what `parseVmFacts` takes. */
export function domainFacts(reading: DomainReading): Record<keyof VmFacts, unknown> {
  const { row, configuration, backends, addresses, hostId } = reading;
  const { b_info: build, disks, nics } = configuration;
  const memoryKib = build.max_memkb ?? build.target_memkb;
  return {
    nativeId: nativeIdOf(row),
    uuid: row.uuid,
    name: configuration.c_info.name,
    powerState: row.powerState,
    hostId,
    vcpus: vcpusOf(build, row),
    memoryBytes: memoryKib === undefined ? row.memoryMib * 2 ** 20 : memoryKib * 1024,
    disks: disks.filter(isDisk).map((disk) => ({
      name: disk.vdev,
      format: disk.format ?? null,
      capacityBytes: backends.find((one) => one.device === disk.vdev)?.capacityBytes ?? null,
      allocatedBytes: null,
      datastore: null,
      path: disk.pdev_path ?? null,
    })),
    nics: nics.map((nic, index) => ({
      mac: normalizeMac(nic.mac),
      network: nic.bridge ?? null,
      model: nic.model ?? (nic.nictype === 'vif' ? 'vif' : null),
      addresses: [...new Set([...configuredAddresses(nic.ip), ...(addresses.get(nic.devid ?? index) ?? [])])].sort(),
    })),
    guestOs: null,
    firmware: firmwareOf(configuration),
    tools: null,
    tags: [],
    createdAtMs: null,
    virtualization: virtualizationOf(configuration, backends),
  };
}

/** Given, not online: a PVH guest brings its processors up one by one, and the row counts those that are up. */
function vcpusOf(build: Configuration['b_info'], row: DomainRow): number {
  const available = build.avail_vcpus?.length ?? 0;
  return available > 0 ? available : (build.max_vcpus ?? row.vcpus);
}

type Disk = Configuration['disks'][number];

function isDisk(disk: Disk): boolean {
  return !(disk.is_cdrom === true || disk.is_cdrom === 1 || disk.is_cdrom === 'True');
}

/** `ip=` of a vif: one or more, with blanks between. */
function configuredAddresses(ip: string | undefined): string[] {
  return (ip ?? '').split(/\s+/).filter((one) => /^[0-9a-fA-F.:]{2,45}$/.test(one));
}

function firmwareOf({ c_info: { type }, b_info: build }: Configuration): VmFacts['firmware'] {
  if (type === 'hvm') {
    if (build['type.hvm']?.bios === 'ovmf') return 'uefi';
    return build.kernel === undefined ? 'bios' : 'kernel';
  }
  // A boot loader run by dom0 finds the kernel on the guest's disk.
  return build.kernel === undefined ? null : 'kernel';
}

/**
 * PV and PVH have Xen's own devices alone. HVM has an emulated twin of each; whether the guest uses the paravirtual one is
 * told by the back end, to which nobody is connected otherwise.
 */
function virtualizationOf(
  { c_info: { type }, disks, nics }: Configuration,
  backends: readonly Backend[],
): Virtualization {
  const hasDisk = disks.some(isDisk);
  const connected = new Set(backends.filter((one) => one.isConnected).map((one) => one.kind));
  if (type !== 'hvm') {
    const paravirtual = [...(hasDisk ? ['disk:xen'] : []), ...(nics.length > 0 ? ['network:xen'] : [])];
    const mode = type === 'pv' ? 'xen-pv' : type === 'pvh' ? 'xen-pvh' : 'unknown';
    return { mode, accelerator: 'xen', paravirtual, emulated: [] };
  }
  const paravirtual = [
    ...(connected.has('vbd') || connected.has('qdisk') ? ['disk:xen'] : []),
    ...(connected.has('vif') ? ['network:xen'] : []),
  ];
  const models = nics.flatMap((nic) =>
    nic.nictype === 'vif' || nic.model === undefined ? [] : [`network:${nic.model}`],
  );
  const emulated = [...new Set([...(hasDisk ? ['disk:emulated'] : []), ...models])].sort();
  return { mode: paravirtual.length > 0 ? 'xen-pvhvm' : 'xen-hvm', accelerator: 'xen', paravirtual, emulated };
}

/** Fields of `xl info`: `name : value`, one a line. */
export function parseInfo(text: string): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, name, value] = /^([a-z_]+) *: ?(.*)$/.exec(line) ?? [];
    if (name !== undefined && value !== undefined) fields.set(name, value.trim());
  }
  if (!fields.has('host') || !/^[0-9]+\./.test(fields.get('xen_version') ?? '')) {
    const text_ = `xl info says no host and version of Xen: ${JSON.stringify(text.slice(0, 200))}`;
    throw new BerthError('invalid', 'xen.info', text_);
  }
  return fields;
}

/**
 * @param told - what HOST says: /proc/uptime, the processor's name, the product's UUID where there is one.
 * @returns what `parseHostFacts` takes.
 */
export function hostFacts(info: ReadonlyMap<string, string>, told: string): Record<keyof HypervisorHost, unknown> {
  const uptime = Number(/^([0-9]+)(?:\.[0-9]+)? [0-9.]+$/m.exec(told)?.[1] ?? Number.NaN);
  const uuid = normalizeUuid(told.trim().split('\n').at(-1) ?? '') ?? null;
  const name = info.get('host') ?? '';
  const amount = (field: string): number | null => {
    const value = Number(info.get(field) ?? Number.NaN);
    return Number.isFinite(value) ? value : null;
  };
  const memoryMib = amount('total_memory');
  return {
    nativeId: uuid ?? name,
    name,
    uuid,
    cpuModel: /^model name\s*: (.+)$/m.exec(told)?.[1] ?? null,
    threads: amount('nr_cpus'),
    memoryBytes: memoryMib === null ? null : memoryMib * 2 ** 20,
    hypervisor: 'Xen',
    hypervisorVersion: info.get('xen_version') ?? null,
    architecture: info.get('machine') ?? null,
    uptimeSeconds: Number.isFinite(uptime) ? uptime : null,
  };
}
