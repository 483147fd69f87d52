/** What the API says of the fleet as rows of tables. Pure. */
import { humanDuration } from '#base';
import type { ChangeListing, HostListing, IntervalListing, LiveFigures, Source, VmListing } from '#fleet';
import { instantText } from './instants.ts';
import type { Row } from './listing.ts';
import { ellipsis } from './tables.ts';

const UNKNOWN = '-';

export function vmRow(vm: VmListing): Row {
  const { facts } = vm;
  const state = vm.goneMs === null ? facts.powerState : 'gone';
  return {
    ID: vm.id,
    Name: vm.name,
    State: vm.isStale ? `${state} (stale)` : state,
    Source: vm.source,
    Host: vm.host ?? UNKNOWN,
    CPUs: facts.vcpus ?? UNKNOWN,
    Memory: bytes(facts.memoryBytes),
    Disk: bytes(diskTotal(vm)),
    Address: facts.nics.flatMap((nic) => nic.addresses)[0] ?? '',
    Mode: facts.virtualization.mode,
    Accelerator: facts.virtualization.accelerator ?? UNKNOWN,
    OS: facts.guestOs ?? '',
    UUID: vm.uuid ?? '',
    Owner: vm.owner ?? '',
    Project: vm.project ?? '',
    Tags: facts.tags.join(','),
  };
}

export const VM_COLUMNS: readonly (readonly [string, string])[] = [
  ['ID', 'ID'],
  ['Name', 'NAME'],
  ['State', 'STATE'],
  ['Source', 'SOURCE'],
  ['Host', 'HOST'],
  ['CPUs', 'CPUS'],
  ['Memory', 'MEMORY'],
  ['Disk', 'DISK'],
  ['Address', 'ADDRESS'],
  ['Mode', 'MODE'],
  ['Owner', 'OWNER'],
];

function diskTotal(vm: VmListing): number | null {
  const known = vm.facts.disks.flatMap((disk) => disk.capacityBytes ?? []);
  return known.length === 0 ? null : known.reduce((sum, one) => sum + one, 0);
}

export function sourceRow(source: Source, nowMs: number): Row {
  const seconds = (nowMs - (source.okMs ?? nowMs)) / 1_000;
  return {
    Name: source.name,
    Driver: source.driver,
    State: source.state,
    Looked: source.okMs === null ? 'never' : `${humanDuration(seconds)} ago`,
    Rights: source.allowPower ? 'power' : 'read-only',
    Product: source.fingerprint === null ? '' : `${source.fingerprint.product} ${source.fingerprint.version}`,
    URL: source.url,
    Problem: source.problem?.message ?? '',
  };
}

export const SOURCE_COLUMNS: readonly (readonly [string, string])[] = [
  ['Name', 'NAME'],
  ['Driver', 'DRIVER'],
  ['State', 'STATE'],
  ['Looked', 'LOOKED'],
  ['Rights', 'RIGHTS'],
  ['Product', 'PRODUCT'],
  ['URL', 'URL'],
  ['Problem', 'PROBLEM'],
];

/** `~` before a time: it was found by looking, and happened at some time since the look before. */
export function intervalRow(interval: IntervalListing): Row {
  const { opened, closed } = interval;
  const when = (instant: IntervalListing['opened']): string =>
    `${instant.how === 'poll' ? '~' : ''}${instantText(instant.atMs)}`;
  return {
    VM: interval.vm,
    Name: interval.name,
    From: when(opened),
    To: closed === null ? '' : when(closed),
    State: interval.powerState,
    Source: interval.source,
    Host: interval.host ?? UNKNOWN,
    CPUs: interval.vcpus ?? UNKNOWN,
    Memory: bytes(interval.memoryBytes),
    Disk: bytes(interval.diskBytes),
    Owner: interval.owner ?? '',
    Project: interval.project ?? '',
    Why: interval.causes.join(','),
    MovedFrom: interval.movedFrom ?? '',
  };
}

export const HISTORY_COLUMNS: readonly (readonly [string, string])[] = [
  ['From', 'FROM'],
  ['To', 'TO'],
  ['State', 'STATE'],
  ['Host', 'HOST'],
  ['CPUs', 'CPUS'],
  ['Memory', 'MEMORY'],
  ['Disk', 'DISK'],
  ['Owner', 'OWNER'],
  ['Why', 'WHY'],
];

export const AT_COLUMNS: readonly (readonly [string, string])[] = [
  ['VM', 'ID'],
  ['Name', 'NAME'],
  ['State', 'STATE'],
  ['Source', 'SOURCE'],
  ['Host', 'HOST'],
  ['CPUs', 'CPUS'],
  ['Memory', 'MEMORY'],
  ['Owner', 'OWNER'],
  ['From', 'SINCE'],
];

export const MOVE_COLUMNS: readonly (readonly [string, string])[] = [
  ['From', 'WHEN'],
  ['VM', 'ID'],
  ['Name', 'NAME'],
  ['MovedFrom', 'FROM'],
  ['Host', 'TO'],
  ['Source', 'SOURCE'],
];

export function changeRow(change: ChangeListing): Row {
  return {
    When: `${change.how === 'poll' ? '~' : ''}${instantText(change.atMs)}`,
    VM: change.vm,
    Name: change.name,
    Source: change.source,
    What: change.field,
    Before: ellipsis(change.before ?? UNKNOWN, 40),
    After: ellipsis(change.after ?? UNKNOWN, 40),
  };
}

export const CHANGE_COLUMNS: readonly (readonly [string, string])[] = [
  ['When', 'WHEN'],
  ['VM', 'ID'],
  ['Name', 'NAME'],
  ['Source', 'SOURCE'],
  ['What', 'WHAT'],
  ['Before', 'BEFORE'],
  ['After', 'AFTER'],
];

export function figuresRow(figures: LiveFigures): Row {
  const rate = (value: number | null): string => (value === null ? UNKNOWN : `${bytes(value)}/s`);
  return {
    VM: figures.vm,
    Name: figures.name,
    Source: figures.source,
    Host: figures.host ?? UNKNOWN,
    CPU: figures.cpuShare === null ? UNKNOWN : `${(figures.cpuShare * 100).toFixed(1)}%`,
    Memory: bytes(figures.memoryUsedBytes),
    Disk: `${rate(figures.diskReadBytesPerSecond)} / ${rate(figures.diskWrittenBytesPerSecond)}`,
    Net: `${rate(figures.receivedBytesPerSecond)} / ${rate(figures.sentBytesPerSecond)}`,
  };
}

export const FIGURES_COLUMNS: readonly (readonly [string, string])[] = [
  ['VM', 'ID'],
  ['Name', 'NAME'],
  ['Source', 'SOURCE'],
  ['Host', 'HOST'],
  ['CPU', 'CPU'],
  ['Memory', 'MEMORY'],
  ['Disk', 'DISK R / W'],
  ['Net', 'NET IN / OUT'],
];

/** Sources, their hosts, and the VMs on each; a host whose VMs are not all there says how many it has. */
export function treeText(sources: readonly Source[], hosts: readonly HostListing[], vms: readonly VmListing[]): string {
  const lines: string[] = [];
  for (const source of sources) {
    lines.push(`${source.name}  ${source.driver}, ${source.state}`);
    const own = vms.filter((vm) => vm.source === source.name);
    for (const host of hosts.filter((one) => one.source === source.name)) {
      const { facts } = host;
      lines.push(
        `  ${facts.name}  ${facts.threads ?? UNKNOWN} threads, ${bytes(facts.memoryBytes)}, ${facts.hypervisor}, ${host.vms} VMs${host.also.map((one) => `, also ${one.source}/${one.host}`).join('')}`,
      );
      for (const vm of own.filter((one) => one.facts.hostId === facts.nativeId)) lines.push(`    ${vmLine(vm)}`);
    }
    for (const vm of own.filter(
      (one) => !hosts.some((host) => host.source === source.name && host.facts.nativeId === one.facts.hostId),
    ))
      lines.push(`  (on no host) ${vmLine(vm)}`);
  }
  return lines.map((line) => `${line}\n`).join('');
}

function vmLine(vm: VmListing): string {
  return `${vm.name}  ${vm.id}, ${vm.facts.powerState}${vm.isStale ? ' (stale)' : ''}, ${vm.facts.vcpus ?? UNKNOWN} CPUs, ${bytes(vm.facts.memoryBytes)}${vm.owner === null ? '' : `, ${vm.owner}`}`;
}

/** Memory and disks are sold in binary multiples: `8GiB`. */
export function bytes(value: number | null): string {
  if (value === null) return UNKNOWN;
  const names = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let rest = value;
  let index = 0;
  while (rest >= 1024 && index < names.length - 1) {
    rest /= 1024;
    index += 1;
  }
  return `${index === 0 ? rest : Number(rest.toPrecision(3))}${names[index]}`;
}
