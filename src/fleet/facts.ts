/**
 * What is known of a VM and of a host, whatever hypervisor tells it. Drivers make these from what comes over the wire;
 * `parseVmFacts` and `parseHostFacts` are the only way in, and hold everything a hypervisor says to sizes.
 */
import * as v from 'valibot';
import { BerthError } from '#base';

/** Longest text taken from a hypervisor: vSphere's annotations are the longest, and are not kept. */
const MOST_CHARACTERS = 1_024;
/** Disks, network cards, addresses or tags of one VM. vSphere allows 256 disks. */
const MOST_ITEMS = 512;

const PRINTED_UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const PRINTED_MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;

const text = v.pipe(
  v.string(),
  v.transform((value) => value.slice(0, MOST_CHARACTERS)),
);
const optionalText = v.nullable(text);
const identifier = v.pipe(v.string(), v.minLength(1), v.maxLength(MOST_CHARACTERS));
const quantity = v.pipe(v.number(), v.finite(), v.minValue(0));
const optionalQuantity = v.nullable(quantity);
const list = <Schema extends v.GenericSchema>(schema: Schema) => v.pipe(v.array(schema), v.maxLength(MOST_ITEMS));

export const POWER_STATES = [
  'running',
  'paused',
  'suspended',
  'off',
  'crashed',
  'stopping',
  'migrating',
  'unknown',
] as const;
export type PowerState = (typeof POWER_STATES)[number];

/**
 * From everything paravirtual to everything emulated. `virtio` is a whole virtual machine whose disks and network are
 * paravirtual; `full` one whose devices are all emulated.
 */
export const VIRTUALIZATION_MODES = [
  'container',
  'xen-pv',
  'xen-pvh',
  'xen-pvhvm',
  'xen-hvm',
  'microvm',
  'virtio',
  'full',
  'simulated',
  'unknown',
] as const;

const FIRMWARES = ['bios', 'uefi', 'kernel'] as const;

const VirtualizationSchema = v.object({
  mode: v.picklist(VIRTUALIZATION_MODES),
  /** `kvm`, `tcg`, `xen`, `vmx`, `hyperv`; null when nobody says. */
  accelerator: optionalText,
  /** Which devices are paravirtual: `disk:virtio`, `network:vmxnet3`. Sorted, each once. */
  paravirtual: list(text),
  emulated: list(text),
});

const DiskSchema = v.object({
  /** What the hypervisor calls it: `vda`, `Hard disk 1`. */
  name: text,
  format: optionalText,
  capacityBytes: optionalQuantity,
  /** What it takes of its datastore. */
  allocatedBytes: optionalQuantity,
  datastore: optionalText,
  path: optionalText,
});

const NicSchema = v.object({
  /** Six lower-case hex pairs with colons. */
  mac: v.nullable(v.pipe(v.string(), v.regex(PRINTED_MAC))),
  network: optionalText,
  model: optionalText,
  addresses: list(text),
});

export const VmFactsSchema = v.object({
  /** What the source itself knows it by; stable for as long as the VM is registered there. */
  nativeId: identifier,
  /** Lower-case, in the order in which it is printed everywhere (RFC 9562); see `normalizeUuid`. */
  uuid: v.nullable(v.pipe(v.string(), v.regex(PRINTED_UUID))),
  name: text,
  powerState: v.picklist(POWER_STATES),
  /** `nativeId` of the host it runs or is registered on. */
  hostId: v.nullable(identifier),
  vcpus: optionalQuantity,
  memoryBytes: optionalQuantity,
  disks: list(DiskSchema),
  nics: list(NicSchema),
  guestOs: optionalText,
  firmware: v.nullable(v.picklist(FIRMWARES)),
  /** State of the agent in the guest, in the source's words. */
  tools: optionalText,
  /** `key=value` or a bare word. */
  tags: list(text),
  createdAtMs: optionalQuantity,
  virtualization: VirtualizationSchema,
});

const HostFactsSchema = v.object({
  nativeId: identifier,
  name: text,
  uuid: v.nullable(v.string()),
  cpuModel: optionalText,
  threads: optionalQuantity,
  memoryBytes: optionalQuantity,
  hypervisor: text,
  hypervisorVersion: optionalText,
  architecture: optionalText,
  uptimeSeconds: optionalQuantity,
});

export type VmFacts = Readonly<v.InferOutput<typeof VmFactsSchema>>;
export type HypervisorHost = Readonly<v.InferOutput<typeof HostFactsSchema>>;
export type Virtualization = VmFacts['virtualization'];

/** @throws fleet.facts (invalid) naming every field that is not what it should be. */
export function parseVmFacts(value: unknown): VmFacts {
  return plainVmFacts(value) ?? parse(VmFactsSchema, value, 'a VM');
}

/** @throws fleet.facts (invalid) naming every field that is not what it should be. */
export function parseHostFacts(value: unknown): HypervisorHost {
  return parse(HostFactsSchema, value, 'a host');
}

function parse<Schema extends v.GenericSchema>(schema: Schema, value: unknown, what: string): v.InferOutput<Schema> {
  const parsed = v.safeParse(schema, value);
  if (parsed.success) return Object.freeze(parsed.output);
  const problems = parsed.issues.map((issue) => `${v.getDotPath(issue) ?? 'all of it'}: ${issue.message}`);
  throw new BerthError('invalid', 'fleet.facts', `the source describes ${what} wrongly: ${problems.join('; ')}`);
}

/**
 * What the schema makes of facts that are as they should be and in which nothing is too long, as nearly all are. The schema's
 * machinery would take V8 longer to compile than a first look at 10,000 VMs has use for it.
 *
 * @returns undefined when the schema has to decide.
 */
function plainVmFacts(value: unknown): VmFacts | undefined {
  if (!isRecord(value)) return undefined;
  const { nativeId, uuid, name, powerState, hostId, vcpus, memoryBytes } = value;
  if (!isIdentifier(nativeId) || !isText(name) || !isOneOf(POWER_STATES, powerState)) return undefined;
  if (uuid !== null && !isPrinted(PRINTED_UUID, uuid)) return undefined;
  if (hostId !== null && !isIdentifier(hostId)) return undefined;
  if (!isOptionalQuantity(vcpus) || !isOptionalQuantity(memoryBytes)) return undefined;
  const { guestOs, firmware, tools, createdAtMs } = value;
  if (!isOptionalText(guestOs) || !isOptionalText(tools) || !isOptionalQuantity(createdAtMs)) return undefined;
  if (firmware !== null && !isOneOf(FIRMWARES, firmware)) return undefined;
  const disks = plainList(value['disks'], plainDisk);
  const nics = plainList(value['nics'], plainNic);
  const tags = plainList(value['tags'], plainText);
  const virtualization = plainVirtualization(value['virtualization']);
  if (disks === undefined || nics === undefined || tags === undefined || virtualization === undefined) return undefined;
  // In the order of the schema: texts of facts are compared.
  return Object.freeze({
    nativeId,
    uuid,
    name,
    powerState,
    hostId,
    vcpus,
    memoryBytes,
    disks,
    nics,
    guestOs,
    firmware,
    tools,
    tags,
    createdAtMs,
    virtualization,
  });
}

function plainDisk(value: unknown): VmFacts['disks'][number] | undefined {
  if (!isRecord(value)) return undefined;
  const { name, format, capacityBytes, allocatedBytes, datastore, path } = value;
  if (!isText(name) || !isOptionalText(format) || !isOptionalText(datastore) || !isOptionalText(path)) return undefined;
  if (!isOptionalQuantity(capacityBytes) || !isOptionalQuantity(allocatedBytes)) return undefined;
  return { name, format, capacityBytes, allocatedBytes, datastore, path };
}

function plainNic(value: unknown): VmFacts['nics'][number] | undefined {
  if (!isRecord(value)) return undefined;
  const { mac, network, model } = value;
  const addresses = plainList(value['addresses'], plainText);
  if (mac !== null && !isPrinted(PRINTED_MAC, mac)) return undefined;
  if (!isOptionalText(network) || !isOptionalText(model) || addresses === undefined) return undefined;
  return { mac, network, model, addresses };
}

function plainVirtualization(value: unknown): Virtualization | undefined {
  if (!isRecord(value)) return undefined;
  const { mode, accelerator } = value;
  const paravirtual = plainList(value['paravirtual'], plainText);
  const emulated = plainList(value['emulated'], plainText);
  if (!isOneOf(VIRTUALIZATION_MODES, mode) || !isOptionalText(accelerator)) return undefined;
  return paravirtual === undefined || emulated === undefined ? undefined : { mode, accelerator, paravirtual, emulated };
}

function plainText(value: unknown): string | undefined {
  return isText(value) ? value : undefined;
}

function plainList<T>(value: unknown, plain: (one: unknown) => T | undefined): T[] | undefined {
  if (!Array.isArray(value) || value.length > MOST_ITEMS) return undefined;
  const items: T[] = [];
  for (const one of value) {
    const item = plain(one);
    if (item === undefined) return undefined;
    items.push(item);
  }
  return items;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length <= MOST_CHARACTERS;
}

function isOptionalText(value: unknown): value is string | null {
  return value === null || isText(value);
}

function isIdentifier(value: unknown): value is string {
  return isText(value) && value !== '';
}

function isPrinted(pattern: RegExp, value: unknown): value is string {
  return typeof value === 'string' && pattern.test(value);
}

function isOneOf<const T extends string>(words: readonly T[], value: unknown): value is T {
  return (words as readonly unknown[]).includes(value);
}

function isOptionalQuantity(value: unknown): value is number | null {
  return value === null || (typeof value === 'number' && value >= 0 && value < Number.POSITIVE_INFINITY);
}

/**
 * How many addresses others can reach it by: those of a link alone and of the loop cost nobody anything. Null when it has
 * network cards and of none an address is told: most hypervisors know them of guests that run only.
 */
export function addressCountOf({ nics }: VmFacts): number | null {
  const all = nics.flatMap((nic) => nic.addresses.map((address) => address.toLowerCase().replace(/[/%].*$/, '')));
  if (all.length === 0 && nics.length > 0) return null;
  return new Set(all.filter((address) => !/^(fe[89ab][0-9a-f]:|169\.254\.|127\.|::1$)/.test(address))).size;
}

/** Bytes of all disks; null when no disk says. */
export function diskBytesOf(facts: VmFacts): number | null {
  const known = facts.disks.flatMap((disk) => (disk.capacityBytes === null ? [] : [disk.capacityBytes]));
  return known.length === 0 ? null : known.reduce((sum, one) => sum + one, 0);
}

/** Text that stands for the same facts in whatever order they came: two VMs with equal facts have equal fingerprints. */
export function factsText(facts: VmFacts): string {
  return JSON.stringify(isInOrder(facts) ? facts : inOrder(facts));
}

function inOrder(facts: VmFacts): VmFacts {
  return {
    ...facts,
    disks: [...facts.disks].sort((a, b) => compare(a.name, b.name)),
    nics: [...facts.nics]
      .map((nic) => ({ ...nic, addresses: [...nic.addresses].sort() }))
      .sort((a, b) => compare(a.mac ?? '', b.mac ?? '')),
    tags: [...facts.tags].sort(),
  };
}

/** As nearly all come. */
function isInOrder({ disks, nics, tags }: VmFacts): boolean {
  return (
    rises(disks, ({ name }) => name) &&
    rises(nics, ({ mac }) => mac ?? '') &&
    nics.every(({ addresses }) => rises(addresses, (address) => address)) &&
    rises(tags, (tag) => tag)
  );
}

function rises<T>(all: readonly T[], textOf: (one: T) => string): boolean {
  for (let at = 1; at < all.length; at += 1) {
    const [before, one] = [all[at - 1], all[at]];
    if (before !== undefined && one !== undefined && textOf(before) > textOf(one)) return false;
  }
  return true;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Makers whose firmware prints the first three groups with their bytes reversed. */
export type UuidOrder = 'network' | 'mixed';

/** Firmware that was never given a number says all zeros or all ones. */
const NO_UUID = /^[0-]+$|^[f-]+$/;

/**
 * Any way of writing a UUID → lower case with hyphens; undefined when it is none, or one that many machines share.
 *
 * @param order - `mixed` for Hyper-V's BIOSGUID, whose first three groups are little-endian. @source RFC 9562, section 4
 */
export function normalizeUuid(given: string, order: UuidOrder = 'network'): string | undefined {
  // As most sources write it.
  if (order === 'network' && PRINTED_UUID.test(given)) return NO_UUID.test(given) ? undefined : given;
  const hex = given
    .toLowerCase()
    .replace(/^urn:uuid:/, '')
    .replace(/[{}\s-]/g, '');
  if (!/^[0-9a-f]{32}$/.test(hex)) return undefined;
  if (NO_UUID.test(hex)) return undefined;
  const pairs = hex.match(/../g) ?? [];
  const take = (from: number, to: number, reversed: boolean): string => {
    const part = pairs.slice(from, to);
    return (reversed ? part.reverse() : part).join('');
  };
  const mixed = order === 'mixed';
  return [take(0, 4, mixed), take(4, 6, mixed), take(6, 8, mixed), take(8, 10, false), take(10, 16, false)].join('-');
}

/** `00-0C-29-AA-BB-CC` and the like → six lower-case pairs with colons; null when it is no such address. */
export function normalizeMac(given: string | undefined): string | null {
  if (given !== undefined && PRINTED_MAC.test(given)) return given;
  const hex = (given ?? '').toLowerCase().replace(/[^0-9a-f]/g, '');
  return hex.length === 12 ? (hex.match(/../g) ?? []).join(':') : null;
}
