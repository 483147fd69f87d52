/**
 * From a domain's XML, its figures and its addresses to facts. Pure.
 *
 * @source libvirt, docs/formatdomain.rst; the statistics' names: virConnectGetAllDomainStats
 */
import {
  type HypervisorHost,
  normalizeMac,
  normalizeUuid,
  type PowerState,
  type Virtualization,
  type VmFacts,
} from '../../facts.ts';
import { childAt, childrenNamed, parseXml, textAt, type XmlElement } from '../../xml.ts';
import type { TypedValue } from './procedures.ts';

export interface DomainReading {
  readonly xml: string;
  readonly stats: ReadonlyMap<string, TypedValue>;
  /** MAC → addresses, as DHCP leases or the host's neighbour table have them. */
  readonly addresses: ReadonlyMap<string, readonly string[]>;
  readonly hostId: string;
}

/** virDomainState → one word. */
const POWER_OF_STATE: Readonly<Record<number, PowerState>> = {
  0: 'unknown',
  1: 'running',
  // Blocked on a resource: it runs.
  2: 'running',
  3: 'paused',
  4: 'stopping',
  5: 'off',
  6: 'crashed',
  7: 'suspended',
};

export function powerOfState(state: number | undefined): PowerState {
  return (state === undefined ? undefined : POWER_OF_STATE[state]) ?? 'unknown';
}

/** @returns what `parseVmFacts` takes. @throws xml.malformed (invalid) */
export function domainFacts({ xml, stats, addresses, hostId }: DomainReading): Record<keyof VmFacts, unknown> {
  const domain = parseXml(xml);
  const uuid = normalizeUuid(textAt(domain, 'uuid') ?? '') ?? null;
  const nics = childrenNamed(childAt(domain, 'devices'), 'interface').map((nic) => nicOf(nic, addresses));
  return {
    nativeId: uuid ?? textAt(domain, 'uuid') ?? '',
    uuid,
    name: textAt(domain, 'name') ?? '',
    powerState: powerOfState(numberOf(stats.get('state.state'))),
    hostId,
    vcpus: Number(childAt(domain, 'vcpu')?.attributes['current'] ?? textAt(domain, 'vcpu') ?? Number.NaN) || null,
    memoryBytes: memoryOf(childAt(domain, 'memory')),
    disks: disksOf(domain, stats),
    nics,
    guestOs: guestOsOf(domain),
    firmware: firmwareOf(childAt(domain, 'os')),
    tools: agentOf(domain),
    tags: tagsOf(domain),
    createdAtMs: null,
    virtualization: virtualizationOf(domain),
  };
}

/** `<memory unit='KiB'>`. @source libvirt, virScaleInteger: k, KiB = 1024; KB = 1000 and so on; KiB without a unit */
export function memoryOf(element: XmlElement | undefined): number | null {
  const amount = Number(element?.text || Number.NaN);
  const unit = (element?.attributes['unit'] ?? 'KiB').toLowerCase();
  const [, letter = '', decimal] = /^(?:b|bytes|([kmgtpe])(?:ib|(b))?)$/.exec(unit) ?? [];
  const power = letter === '' ? 0 : 'kmgtpe'.indexOf(letter) + 1;
  const bytes = amount * (decimal === undefined ? 1024 : 1000) ** power;
  return Number.isFinite(bytes) ? bytes : null;
}

function numberOf(value: TypedValue | undefined): number | undefined {
  return typeof value === 'bigint' || typeof value === 'number' ? Number(value) : undefined;
}

function disksOf(domain: XmlElement, stats: DomainReading['stats']): VmFacts['disks'] {
  const index = new Map<string, number>();
  const count = numberOf(stats.get('block.count')) ?? 0;
  for (let at = 0; at < Math.min(count, 512); at += 1) {
    const name = stats.get(`block.${at}.name`);
    if (typeof name === 'string' && !index.has(name)) index.set(name, at);
  }
  const disks = childrenNamed(childAt(domain, 'devices'), 'disk');
  const kept = disks.filter((disk) => (disk.attributes['device'] ?? 'disk') === 'disk');
  return kept.map((disk) => {
    const name = childAt(disk, 'target')?.attributes['dev'] ?? '';
    const at = index.get(name);
    const figure = (what: string): number | null => numberOf(stats.get(`block.${at}.${what}`)) ?? null;
    const source = childAt(disk, 'source')?.attributes ?? {};
    return {
      name,
      format: childAt(disk, 'driver')?.attributes['type'] ?? null,
      capacityBytes: figure('capacity'),
      allocatedBytes: figure('physical') ?? figure('allocation'),
      datastore: source['pool'] ?? null,
      path: source['file'] ?? source['dev'] ?? source['volume'] ?? source['name'] ?? null,
    };
  });
}

function nicOf(nic: XmlElement, addresses: DomainReading['addresses']): VmFacts['nics'][number] {
  const mac = normalizeMac(childAt(nic, 'mac')?.attributes['address']);
  const source = childAt(nic, 'source')?.attributes ?? {};
  return {
    mac,
    network: source['network'] ?? source['bridge'] ?? source['dev'] ?? null,
    model: childAt(nic, 'model')?.attributes['type'] ?? null,
    addresses: [...(addresses.get(mac ?? '') ?? [])],
  };
}

/** libosinfo's id in the metadata: `http://debian.org/debian/12` → `debian/12`. */
function guestOsOf(domain: XmlElement): string | null {
  const os = childAt(domain, 'metadata', 'libosinfo', 'os')?.attributes['id'];
  return os === undefined ? null : os.replace(/^[a-z]+:\/\/[^/]+\//, '');
}

function firmwareOf(os: XmlElement | undefined): VmFacts['firmware'] {
  const loader = childAt(os, 'loader');
  if (os?.attributes['firmware'] === 'efi' || loader?.attributes['type'] === 'pflash') return 'uefi';
  if (os?.attributes['firmware'] === 'bios') return 'bios';
  if (childAt(os, 'kernel') !== undefined) return 'kernel';
  return textAt(os, 'type') === 'hvm' ? 'bios' : null;
}

/** The channel of QEMU's guest agent, where the domain has one: `connected`, `disconnected`, or only `configured`. */
function agentOf(domain: XmlElement): string | null {
  const channels = childrenNamed(childAt(domain, 'devices'), 'channel');
  const target = channels
    .map((channel) => childAt(channel, 'target')?.attributes)
    .find((one) => one?.['name'] === 'org.qemu.guest_agent.0');
  return target === undefined ? null : (target['state'] ?? 'configured');
}

/** libvirt has no tags of its own; the title is one, and so are berth's in the metadata: `<berth:tag name="a">b</berth:tag>`. */
function tagsOf(domain: XmlElement): string[] {
  const title = textAt(domain, 'title');
  const own = childrenNamed(childAt(domain, 'metadata', 'tags'), 'tag').map((tag) => {
    const name = tag.attributes['name'] ?? '';
    return tag.text === '' ? name : name === '' ? tag.text : `${name}=${tag.text}`;
  });
  return [...(title === undefined ? [] : [`title=${title}`]), ...own.filter((tag) => tag !== '')];
}

/** Devices by the driver the guest needs: virtio and Xen's are made for virtual machines, the others imitate hardware. */
function virtualizationOf(domain: XmlElement): Virtualization {
  const type = domain.attributes['type'] ?? '';
  const osType = childAt(domain, 'os', 'type');
  const machine = osType?.attributes['machine'] ?? '';
  const devices = childAt(domain, 'devices');
  const models: string[] = [
    ...childrenNamed(devices, 'disk').map((disk) => `disk:${childAt(disk, 'target')?.attributes['bus'] ?? 'unknown'}`),
    ...childrenNamed(devices, 'interface').map(
      (nic) => `network:${childAt(nic, 'model')?.attributes['type'] ?? 'default'}`,
    ),
    ...childrenNamed(devices, 'controller').flatMap((one) =>
      one.attributes['type'] === 'scsi' ? [`scsi:${one.attributes['model'] ?? 'default'}`] : [],
    ),
    ...childrenNamed(devices, 'video').map((one) => `video:${childAt(one, 'model')?.attributes['type'] ?? 'default'}`),
    ...childrenNamed(devices, 'memballoon').map((one) => `balloon:${one.attributes['model'] ?? 'none'}`),
    ...childrenNamed(devices, 'rng').map((one) => `rng:${one.attributes['model'] ?? 'virtio'}`),
  ].filter((model) => !/:(none|default|unknown)$/.test(model));
  const isParavirtual = (model: string): boolean => /:(virtio.*|xen.*|vmxnet3|pvscsi|vmpvscsi|netvsc)$/.test(model);
  const sorted = [...new Set(models)].sort();
  const paravirtual = sorted.filter(isParavirtual);
  const emulated = sorted.filter((model) => !isParavirtual(model));
  return {
    mode: modeOf({ type, osType: osType?.text ?? '', machine, paravirtual }),
    accelerator: acceleratorOf(type),
    paravirtual,
    emulated,
  };
}

function acceleratorOf(type: string): string | null {
  const known: Readonly<Record<string, string>> = {
    qemu: 'tcg',
    kvm: 'kvm',
    xen: 'xen',
    hvf: 'hvf',
    vmware: 'vmx',
    hyperv: 'hyperv',
  };
  return known[type] ?? null;
}

function modeOf(domain: {
  type: string;
  osType: string;
  machine: string;
  paravirtual: readonly string[];
}): Virtualization['mode'] {
  const { type, osType, machine, paravirtual } = domain;
  if (type === 'test') return 'simulated';
  if (type === 'lxc' || osType === 'exe') return 'container';
  if (osType === 'xen' || osType === 'linux') return 'xen-pv';
  if (osType === 'xenpvh') return 'xen-pvh';
  // In Xen's HVM every disk and network card has a paravirtual twin; whether the guest uses it libvirt does not know.
  if (type === 'xen') return paravirtual.length > 0 ? 'xen-pvhvm' : 'xen-hvm';
  if (osType !== 'hvm') return 'unknown';
  if (machine.startsWith('microvm')) return 'microvm';
  return paravirtual.some((model) => /^(disk|network|scsi):/.test(model)) ? 'virtio' : 'full';
}

export interface NodeReading {
  readonly hostName: string;
  readonly capabilities: string;
  readonly model: string;
  readonly memoryKib: bigint;
  readonly cpus: number;
  readonly hypervisor: string;
  /** As libvirt counts: 1,000,000 × major + 1,000 × minor + release. */
  readonly version: bigint;
  /** Known better than libvirt knows it: where firmware has no UUID, libvirtd makes one up at each of its starts. */
  readonly uuid?: string | null;
}

/** @returns what `parseHostFacts` takes. */
export function nodeFacts(node: NodeReading): Record<keyof HypervisorHost, unknown> {
  const host = childAt(parseXml(node.capabilities), 'host');
  const uuid = node.uuid ?? normalizeUuid(textAt(host, 'uuid') ?? '') ?? null;
  return {
    // A connection shows one host, whose UUID may be another one at the next start of libvirtd.
    nativeId: node.hostName,
    name: node.hostName,
    uuid,
    cpuModel: textAt(host, 'cpu', 'model') ?? (node.model === '' ? null : node.model),
    threads: node.cpus,
    memoryBytes: Number(node.memoryKib) * 1024,
    hypervisor: node.hypervisor,
    hypervisorVersion: versionText(node.version),
    architecture: textAt(host, 'cpu', 'arch') ?? (node.model === '' ? null : node.model),
    uptimeSeconds: null,
  };
}

export function versionText(version: bigint): string {
  return `${version / 1_000_000n}.${(version / 1_000n) % 1_000n}.${version % 1_000n}`;
}
