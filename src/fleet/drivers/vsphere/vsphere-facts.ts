/**
 * From properties that vSphere gives to facts. Pure.
 *
 * @source vSphere Web Services API reference: VirtualMachine, HostSystem, VirtualDevice (names are facts)
 */
import {
  type HypervisorHost,
  normalizeMac,
  normalizeUuid,
  type PowerState,
  type Virtualization,
  type VmFacts,
} from '../../facts.ts';
import { childAt, childrenNamed, textAt, type XmlElement } from '../../xml.ts';
import type { Interest } from '../../xml-scan.ts';
import { type Moref, morefOf } from './soap.ts';

/**
 * Asked for by name: a VM's whole `config` takes a hundred times as long. Its shape is the summary's, which servers have at hand and
 * tell even of VMs whose files cannot be reached.
 */
export const VM_PROPERTIES = [
  'name',
  'config.uuid',
  'summary.config.numCpu',
  'summary.config.memorySizeMB',
  'config.hardware.device',
  'config.guestFullName',
  'config.firmware',
  'config.createDate',
  'config.template',
  'runtime.powerState',
  'runtime.host',
  'guest.net',
  'guest.toolsRunningStatus',
  'customValue',
] as const;

export const HOST_PROPERTIES = [
  'name',
  'summary.hardware.uuid',
  'summary.hardware.cpuModel',
  'summary.hardware.numCpuThreads',
  'summary.hardware.memorySize',
  'summary.config.product.name',
  'summary.config.product.version',
  'summary.quickStats.uptime',
] as const;

/** What is told of a device that facts are not made of. */
const UNUSED_OF_DEVICES: ReadonlySet<string> = new Set([
  'addressType',
  'busNumber',
  'connectable',
  'controllerKey',
  'datastore',
  'hotAddRemove',
  'port',
  'scsiCtlrUnitNumber',
  'sharedBus',
  'shares',
  'slotInfo',
  'storageIOAllocation',
  'unitNumber',
]);

/** Devices that are known to be neither a disk nor a network card: that they are there is all that is of use. */
const MERE_DEVICES =
  /^(?:\w+:)?(?:Virtual(?:IDE|PS2|PCI|SIO|USB|USBXHCI|AHCI|NVME|LsiLogic|LsiLogicSAS|BusLogic)Controller|ParaVirtualSCSIController|Virtual(?:Keyboard|PointingDevice|MachineVideoCard|MachineVMCIDevice|Cdrom|Floppy|SerialPort|ParallelPort|HdAudioCard|SoundBlaster16|Ensoniq1371|USB|TPM|WDT))$/;

/** Nine tenths of a page are devices. */
export function wantedOfDevices(name: string, attributes: Readonly<Record<string, string>>): Interest {
  if (name === 'VirtualDevice') return MERE_DEVICES.test(attributes['type'] ?? '') ? 'itself' : 'all';
  return UNUSED_OF_DEVICES.has(name) ? 'nothing' : 'all';
}

export interface Properties {
  get(name: string): XmlElement | undefined;
}

/** One object and its properties by name; those that vSphere did not give are absent. */
export interface ObjectContent {
  readonly moref: Moref;
  readonly properties: Properties;
}

/** One of the `objects` of a RetrieveResult. */
export function objectOf(object: XmlElement): ObjectContent | undefined {
  const moref = morefOf(childAt(object, 'obj'));
  return moref === undefined ? undefined : { moref, properties: propertiesOf(childrenNamed(object, 'propSet')) };
}

/** A dozen of them, looked through: to make a map of each object's takes longer than to ask all of it. */
class PropertyList implements Properties {
  readonly #names: string[] = [];
  readonly #values: XmlElement[] = [];

  constructor(sets: readonly XmlElement[]) {
    for (const set of sets) {
      const name = textAt(set, 'name');
      const value = childAt(set, 'val');
      if (name === undefined || value === undefined) continue;
      this.#names.push(name);
      this.#values.push(value);
    }
  }

  get(name: string): XmlElement | undefined {
    return this.#values[this.#names.indexOf(name)];
  }
}

/** @param sets - `propSet` or `changeSet` elements. */
export function propertiesOf(sets: readonly XmlElement[]): Properties {
  return new PropertyList(sets);
}

const POWER: Readonly<Record<string, PowerState>> = { poweredOn: 'running', poweredOff: 'off', suspended: 'suspended' };

export function powerOf(value: string | undefined): PowerState {
  return POWER[value ?? ''] ?? 'unknown';
}

/** @returns what `parseVmFacts` takes; `tags` without custom attributes and those of the tagging service. */
export function vmFacts({
  moref,
  properties,
}: ObjectContent): Record<keyof VmFacts, unknown> & { readonly tags: readonly string[] } {
  const text = (name: string): string | null => properties.get(name)?.text || null;
  const devices = childrenNamed(properties.get('config.hardware.device'), 'VirtualDevice');
  const { disks, nics, models } = partsOf(devices, properties.get('guest.net'));
  const created = Date.parse(text('config.createDate') ?? '');
  const memoryMib = number(text('summary.config.memorySizeMB'));
  return {
    nativeId: moref.id,
    uuid: normalizeUuid(text('config.uuid') ?? '') ?? null,
    name: decodeName(text('name') ?? moref.id),
    powerState: powerOf(text('runtime.powerState') ?? undefined),
    hostId: morefOf(properties.get('runtime.host'))?.id ?? text('runtime.host'),
    vcpus: number(text('summary.config.numCpu')),
    memoryBytes: memoryMib === null ? null : memoryMib * 1024 * 1024,
    disks,
    nics,
    guestOs: text('config.guestFullName'),
    firmware: text('config.firmware') === 'efi' ? 'uefi' : text('config.firmware') === 'bios' ? 'bios' : null,
    tools: text('guest.toolsRunningStatus'),
    tags: text('config.template') === 'true' ? ['template'] : [],
    // vCenter says 1970 for VMs that are older than the property.
    createdAtMs: Number.isFinite(created) && created > 0 ? created : null,
    virtualization: virtualizationOf(models),
  };
}

/** vSphere writes `/`, `\` and `%` in names percent-encoded. */
function decodeName(name: string): string {
  return name.includes('%') ? name.replace(/%(2f|5c|25)/gi, (code) => decodeURIComponent(code)) : name;
}

function number(text: string | null): number | null {
  const value = Number(text ?? Number.NaN);
  return Number.isFinite(value) ? value : null;
}

/** Without the prefix of its namespace. */
function typeOf(device: XmlElement): string {
  const type = device.attributes['type'] ?? '';
  const colon = type.indexOf(':');
  return colon < 0 ? type : type.slice(colon + 1);
}

interface Parts {
  readonly disks: VmFacts['disks'];
  readonly nics: VmFacts['nics'];
  /** Of all devices whose model says something, each once. */
  readonly models: string[];
}

/** In plain loops: most of what is read of a VM are devices. */
function partsOf(devices: readonly XmlElement[], guestNet: XmlElement | undefined): Parts {
  const parts = { disks: [] as VmFacts['disks'], nics: [] as VmFacts['nics'], models: [] as string[] };
  let addresses: ReadonlyMap<string | null, string[]> | undefined;
  for (const device of devices) {
    const type = typeOf(device);
    const model = MODELS.get(type);
    if (model !== undefined && !parts.models.includes(model)) parts.models.push(model);
    if (type === 'VirtualDisk') parts.disks.push(diskOf(device));
    const macText = textAt(device, 'macAddress');
    if (macText === undefined) continue;
    addresses ??= addressesOf(guestNet);
    const mac = normalizeMac(macText);
    parts.nics.push({
      mac,
      network: textAt(device, 'backing', 'deviceName') ?? textAt(device, 'deviceInfo', 'summary') ?? null,
      model: (type.startsWith('Virtual') ? type.slice('Virtual'.length) : type).toLowerCase(),
      addresses: addresses.get(mac) ?? [],
    });
  }
  return parts;
}

function diskOf(disk: XmlElement): VmFacts['disks'][number] {
  const path = textAt(disk, 'backing', 'fileName') ?? null;
  const kib = number(textAt(disk, 'capacityInKB') ?? null);
  return {
    name: textAt(disk, 'deviceInfo', 'label') ?? `disk ${textAt(disk, 'key') ?? ''}`,
    format: 'vmdk',
    capacityBytes: number(textAt(disk, 'capacityInBytes') ?? null) ?? (kib === null ? null : kib * 1024),
    allocatedBytes: null,
    datastore: /^\[([^\]]*)\]/.exec(path ?? '')?.[1] ?? null,
    path,
  };
}

/** Of network cards, by their hardware address. */
function addressesOf(guestNet: XmlElement | undefined): Map<string | null, string[]> {
  const addresses = new Map<string | null, string[]>();
  for (const nic of childrenNamed(guestNet, 'GuestNicInfo'))
    addresses.set(
      normalizeMac(textAt(nic, 'macAddress')),
      childrenNamed(nic, 'ipAddress').map((one) => one.text),
    );
  return addresses;
}

const MODELS: ReadonlyMap<string, string> = new Map([
  ['VirtualVmxnet3', 'network:vmxnet3'],
  ['VirtualVmxnet2', 'network:vmxnet2'],
  ['VirtualE1000', 'network:e1000'],
  ['VirtualE1000e', 'network:e1000e'],
  ['VirtualPCNet32', 'network:pcnet32'],
  ['ParaVirtualSCSIController', 'scsi:pvscsi'],
  ['VirtualLsiLogicController', 'scsi:lsilogic'],
  ['VirtualLsiLogicSASController', 'scsi:lsisas'],
  ['VirtualBusLogicController', 'scsi:buslogic'],
  ['VirtualAHCIController', 'disk:sata'],
  ['VirtualIDEController', 'disk:ide'],
  ['VirtualNVMEController', 'disk:nvme'],
]);

/** VMware's own devices need VMware's drivers in the guest; the others imitate hardware. */
const PARAVIRTUAL = new Set(['network:vmxnet3', 'network:vmxnet2', 'scsi:pvscsi']);

function virtualizationOf(models: string[]): Virtualization {
  models.sort();
  const [paravirtual, emulated]: [string[], string[]] = [[], []];
  for (const model of models) (PARAVIRTUAL.has(model) ? paravirtual : emulated).push(model);
  return { mode: paravirtual.length > 0 ? 'virtio' : 'full', accelerator: 'vmx', paravirtual, emulated };
}

/** @returns what `parseHostFacts` takes. */
export function hostFacts({ moref, properties }: ObjectContent): Record<keyof HypervisorHost, unknown> {
  const text = (name: string): string | null => properties.get(name)?.text || null;
  return {
    nativeId: moref.id,
    name: text('name') ?? moref.id,
    uuid: normalizeUuid(text('summary.hardware.uuid') ?? '') ?? null,
    cpuModel: text('summary.hardware.cpuModel'),
    threads: number(text('summary.hardware.numCpuThreads')),
    memoryBytes: number(text('summary.hardware.memorySize')),
    hypervisor: text('summary.config.product.name') ?? 'VMware ESXi',
    hypervisorVersion: text('summary.config.product.version'),
    // ESXi for x86 is the only one vCenter manages in practice; nothing says so.
    architecture: null,
    uptimeSeconds: number(text('summary.quickStats.uptime')),
  };
}
