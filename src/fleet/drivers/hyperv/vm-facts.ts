/**
 * From Hyper-V's objects to facts. Pure.
 *
 * Settings belong to a VM by their InstanceID, `Microsoft:VM\DEVICE…`; those of snapshots begin with the snapshot's GUID. A VM is
 * its GUID, `Name`; its UUID is what its firmware tells the guest, with the first three groups reversed.
 *
 * @source Hyper-V WMI provider v2, class definitions (names and numbers are facts)
 */
import {
  type HypervisorHost,
  normalizeMac,
  normalizeUuid,
  type PowerState,
  type Virtualization,
  type VmFacts,
} from '../../facts.ts';
import { childrenNamed, parseXml, textAt, type XmlElement } from '../../xml.ts';
import type { Estate } from './answers.ts';
import { HARD_DISK } from './script.ts';

const GUID = /^[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}$/i;
const MIB = 2 ** 20;
/** What a guest says of itself, in one item. */
const MOST_ITEM_CHARACTERS = 8_192;
const MOST_ADDRESSES = 64;

const POWER: Readonly<Record<number, PowerState>> = {
  2: 'running',
  3: 'off',
  4: 'stopping',
  6: 'suspended',
  9: 'paused',
  10: 'running',
  32768: 'paused',
  32769: 'suspended',
  32770: 'running',
  32771: 'running',
  32773: 'stopping',
  32774: 'stopping',
  32776: 'running',
  32777: 'running',
  32779: 'suspended',
  32780: 'stopping',
};

/** Lists whose rows belong to one VM each, and by which property. */
const OWNED = {
  settings: (row: { VirtualSystemIdentifier: string }) => row.VirtualSystemIdentifier,
  memory: vmIn,
  processors: vmIn,
  synthetic: vmIn,
  emulated: vmIn,
  connections: vmIn,
  storage: vmIn,
  devices: vmIn,
  addresses: (row: { InstanceID: string }) => row.InstanceID.split('\\')[1] ?? '',
  guests: (row: { SystemName: string }) => row.SystemName,
} as const;

function vmIn({ InstanceID }: { readonly InstanceID: string }): string {
  return /^Microsoft:([^\\]+)/.exec(InstanceID)?.[1] ?? '';
}

/** Each VM's own part of what was told, so that a thousand VMs do not each look through a thousand VMs' rows. */
export function partsByVm(estate: Estate): (id: string) => Estate {
  const parts = new Map<string, Record<string, unknown[]>>();
  for (const [list, ownerOf] of Object.entries(OWNED))
    for (const row of estate[list as keyof typeof OWNED]) {
      const owner = (ownerOf as (row: unknown) => string)(row).toLowerCase();
      const part = parts.get(owner) ?? {};
      part[list] = [...(part[list] ?? []), row];
      parts.set(owner, part);
    }
  const empty = Object.fromEntries(Object.keys(OWNED).map((list) => [list, []]));
  const sizes = new Map(estate.disks.map((one) => [one.Path, one]));
  return (id) => {
    const own = { ...estate, ...empty, ...parts.get(id.toLowerCase()) } as Estate;
    const paths = own.storage.flatMap((one) => one.HostResource);
    return { ...own, disks: paths.flatMap((path) => sizes.get(path) ?? []) };
  };
}

export type VmSystem = Estate['systems'][number];

/** The host is among the systems too: its name is no GUID. */
export function isVm({ Name }: { readonly Name: string }): boolean {
  return GUID.test(Name);
}

export function powerOf(enabledState: number): PowerState {
  return POWER[enabledState] ?? 'unknown';
}

/** Whether it has settings: one that was made or removed between two queries has none. */
export function hasSettings(estate: Estate, { Name }: VmSystem): boolean {
  return estate.settings.some((one) => isSame(one.VirtualSystemIdentifier, Name));
}

/** @returns what `parseVmFacts` takes. */
export function vmFacts(system: VmSystem, estate: Estate, hostId: string): Record<keyof VmFacts, unknown> {
  const { Name: id } = system;
  const settings = estate.settings.find((one) => isSame(one.VirtualSystemIdentifier, id));
  const disks = disksOf(id, estate);
  const nics = nicsOf(id, estate);
  const memoryMib = estate.memory.find((one) => isOf(one.InstanceID, id))?.VirtualQuantity ?? null;
  const guest = guestItems(estate.guests.find((one) => isSame(one.SystemName, id))?.GuestIntrinsicExchangeItems ?? []);
  const isReplica = (system.ReplicationMode ?? 0) >= 2;
  const generation = /:SubType:([12])$/.exec(settings?.VirtualSystemSubType ?? '')?.[1];
  const services = guest.get('IntegrationServicesVersion');
  return {
    nativeId: id,
    // A replica has its original's number: the two are not one VM that is in two places.
    uuid: isReplica ? null : (normalizeUuid(settings?.BIOSGUID ?? '', 'mixed') ?? null),
    name: system.ElementName === '' ? (settings?.ElementName ?? id) : system.ElementName,
    powerState: powerOf(system.EnabledState),
    hostId,
    vcpus: estate.processors.find((one) => isOf(one.InstanceID, id))?.VirtualQuantity ?? null,
    memoryBytes: memoryMib === null ? null : memoryMib * MIB,
    disks: disks.map(({ kind: _, ...disk }) => disk),
    nics: nics.map(({ isSynthetic: _, ...nic }) => nic),
    guestOs: guest.get('OSName') || null,
    firmware: generation === '2' ? 'uefi' : generation === '1' ? 'bios' : null,
    tools: services === undefined || services === '' ? null : `integration services ${services}`,
    tags: [...(isReplica ? ['replica'] : []), ...tagsIn(settings?.Notes ?? [])],
    createdAtMs: settings?.CreationTime ?? null,
    virtualization: virtualizationOf(disks, nics),
  };
}

/** Lines of the notes that are nothing but `key=value`; all else in them is prose. */
function tagsIn(notes: readonly string[]): string[] {
  const lines = notes.flatMap((note) => note.split(/\r?\n/)).map((line) => line.trim());
  return [...new Set(lines.filter((line) => /^[A-Za-z0-9_.-]{1,64}=[^\s=][^=]{0,255}$/.test(line)))].sort();
}

interface Disk {
  readonly kind: 'ide' | 'scsi' | undefined;
  readonly name: string;
  readonly format: string | null;
  readonly capacityBytes: number | null;
  readonly allocatedBytes: number | null;
  readonly datastore: string | null;
  readonly path: string | null;
}

/** A medium's parent is a drive, whose parent is a controller. */
function disksOf(id: string, estate: Estate): Disk[] {
  const own = estate.devices.filter((one) => isOf(one.InstanceID, id));
  const controllers = (kind: 'ide' | 'scsi') =>
    own.filter((one) => kindOf(one.ResourceSubType) === kind).sort((a, b) => (a.InstanceID < b.InstanceID ? -1 : 1));
  return estate.storage
    .filter((one) => isOf(one.InstanceID, id) && one.ResourceSubType === HARD_DISK)
    .map((medium) => {
      const drive = named(own, medium.Parent);
      const controller = drive === undefined ? undefined : named(own, drive.Parent);
      const kind = kindOf(controller?.ResourceSubType ?? '');
      const place =
        kind === undefined || controller === undefined ? '?' : String(controllers(kind).indexOf(controller));
      const path = medium.HostResource[0] ?? null;
      const size = estate.disks.find((one) => one.Path === path);
      const format = String(size?.Format ?? '');
      return {
        kind,
        name: `${kind?.toUpperCase() ?? 'disk'} ${place}:${drive?.AddressOnParent || '?'}`,
        // @source Msvm_VirtualHardDiskSettingData.Format
        format: format === '2' ? 'vhd' : format === '3' ? 'vhdx' : format === '4' ? 'vhdset' : null,
        capacityBytes: size?.MaxInternalSize ?? null,
        allocatedBytes: size?.FileSize ?? null,
        datastore: volumeOf(path),
        path,
      };
    });
}

function kindOf(subType: string): 'ide' | 'scsi' | undefined {
  if (subType === 'Microsoft:Hyper-V:Emulated IDE Controller') return 'ide';
  return subType === 'Microsoft:Hyper-V:Synthetic SCSI Controller' ? 'scsi' : undefined;
}

/** The object that a WMI path names: `\\HOST\root\virtualization\v2:Class.InstanceID="…"`, with quotes and backslashes escaped. */
function named<One extends { readonly InstanceID: string }>(all: readonly One[], path: string): One | undefined {
  const quoted = /\.InstanceID="((?:[^"\\]|\\.){1,1024})"$/.exec(path)?.[1];
  return quoted === undefined ? undefined : all.find((one) => isSame(one.InstanceID, quoted.replace(/\\(.)/g, '$1')));
}

/** A cluster's volume, a share, or a drive's letter. */
function volumeOf(path: string | null): string | null {
  return /^([A-Z]:\\ClusterStorage\\[^\\]+|\\\\[^\\]+\\[^\\]+|[A-Z]:)/i.exec(path ?? '')?.[1] ?? null;
}

type Nic = VmFacts['nics'][number] & { readonly isSynthetic: boolean };

function nicsOf(id: string, estate: Estate): Nic[] {
  const ports = [
    ...estate.synthetic.map((port) => ({ port, isSynthetic: true })),
    ...estate.emulated.map((port) => ({ port, isSynthetic: false })),
  ];
  return ports
    .filter(({ port }) => isOf(port.InstanceID, id))
    .map(({ port, isSynthetic }) => {
      const device = port.InstanceID.split('\\')[1] ?? '';
      const link = estate.connections.find(
        (one) => isOf(one.InstanceID, id) && isSame(one.InstanceID.split('\\')[1], device),
      );
      const told = estate.addresses.find((one) => isSame(one.InstanceID, `Microsoft:GuestNetwork\\${id}\\${device}`));
      return {
        isSynthetic,
        mac: normalizeMac(port.Address),
        network: switchOf(link?.HostResource[0], estate),
        model: isSynthetic ? 'netvsc' : 'dec21140',
        addresses: (told?.IPAddresses ?? []).filter(isAddress).slice(0, MOST_ADDRESSES),
      };
    });
}

function switchOf(path: string | undefined, { switches }: Estate): string | null {
  const name = /[.,]Name="([^"]{1,200})"/.exec(path ?? '')?.[1];
  return switches.find((one) => isSame(one.Name, name))?.ElementName || null;
}

/** The guest says them. */
function isAddress(text: string): boolean {
  return text.length <= 45 && /^((?:[0-9]{1,3}\.){3}[0-9]{1,3}|[0-9a-f]*:[0-9a-f:.]*)$/i.test(text);
}

/** Synthetic devices need drivers for Hyper-V; IDE and the legacy network card imitate hardware. */
function virtualizationOf(disks: readonly Disk[], nics: readonly Nic[]): Virtualization {
  const models = [
    ...disks.map(({ kind }) => (kind === 'scsi' ? 'disk:storvsc' : `disk:${kind ?? 'unknown'}`)),
    ...nics.map(({ model }) => `network:${model}`),
  ];
  const all: string[] = [...new Set(models)].sort();
  const paravirtual: string[] = all.filter((model) => model === 'disk:storvsc' || model === 'network:netvsc');
  return {
    mode: paravirtual.length > 0 ? 'virtio' : 'full',
    accelerator: 'hyperv',
    paravirtual,
    emulated: all.filter((model) => !paravirtual.includes(model)),
  };
}

/** Key and value pairs, each an `<INSTANCE>` with properties Name and Data. The guest writes them: one that is none is left out. */
function guestItems(items: readonly string[]): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const item of items) {
    const properties = item.length > MOST_ITEM_CHARACTERS ? [] : childrenNamed(tryXml(item), 'PROPERTY');
    const value = (name: string): string | undefined => {
      const property = properties.find((one) => one.attributes['NAME'] === name);
      return property === undefined ? undefined : textAt(property, 'VALUE');
    };
    const [name, data] = [value('Name'), value('Data')];
    if (name !== undefined && data !== undefined) found.set(name, data);
  }
  return found;
}

function tryXml(text: string): XmlElement | undefined {
  try {
    return parseXml(text);
  } catch {
    return undefined;
  }
}

function isSame(a: string | undefined, b: string | undefined): boolean {
  return a !== undefined && b !== undefined && a.toLowerCase() === b.toLowerCase();
}

function isOf(instanceId: string, vmId: string): boolean {
  return isSame(vmIn({ InstanceID: instanceId }), vmId);
}

const ARCHITECTURES: Readonly<Record<number, string>> = { 0: 'i686', 9: 'x86_64', 12: 'aarch64' };

/** Its UUID, else its name. */
export function hostIdOf(of: {
  readonly computer: readonly { readonly Name: string }[];
  readonly product: readonly { readonly UUID: string }[];
}): string {
  return normalizeUuid(of.product[0]?.UUID ?? '') ?? of.computer[0]?.Name ?? '';
}

/** @returns what `parseHostFacts` takes. */
export function hostFacts(estate: Estate): Record<keyof HypervisorHost, unknown> {
  const [computer] = estate.computer;
  const [system] = estate.system;
  const [cpu] = estate.cpus;
  const uuid = normalizeUuid(estate.product[0]?.UUID ?? '') ?? null;
  const name = computer?.Name ?? '';
  const nativeId = hostIdOf(estate);
  const upMs = (system?.LocalDateTime ?? Number.NaN) - (system?.LastBootUpTime ?? Number.NaN);
  return {
    nativeId,
    name,
    uuid,
    cpuModel: cpu?.Name.trim() || null,
    threads: computer?.NumberOfLogicalProcessors ?? null,
    memoryBytes: computer?.TotalPhysicalMemory ?? null,
    hypervisor: 'Hyper-V',
    hypervisorVersion: system?.Version || null,
    architecture: ARCHITECTURES[cpu?.Architecture ?? -1] ?? null,
    uptimeSeconds: Number.isFinite(upMs) && upMs >= 0 ? Math.floor(upMs / 1_000) : null,
  };
}
