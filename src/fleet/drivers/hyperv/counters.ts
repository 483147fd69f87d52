/**
 * From the performance counters of a Hyper-V host to what VMs and the host used. Pure.
 *
 * Instances are named after VMs, cards and files, not by ids:
 *
 *     shop:Hv VP 0                                    a VM's virtual processor
 *     shop_Network Adapter_…GUID…                     a card: which one its GUID says
 *     C:-ClusterStorage-Volume1-shop.vhdx             a file, `\` as `-`
 *
 * Two VMs may have one name; the second's instances are then `shop#1:…`, in an order that nobody tells. What could be of two is of
 * nobody, and of a VM of which something is missing nothing is told: a gap is seen, a guess is not.
 *
 * Raw values only rise while the instance exists. Time is in units of 100 ns, whatever the name says of percents.
 *
 * @source Microsoft, "How to get Processor Utilization for Hyper-V via WMI" and "Hyper-V Performance Counters" parts three and four
 *   (T. Voellm, 2008): classes, units, that total is guest and hypervisor, that partitions other than the root have `NAME:Hv VP n`;
 *   prometheus-community/windows_exporter, collector hyperv: properties of the classes; Win32_OperatingSystem (KiB)
 */
import type { HostSample, VmSample } from '../../driver.ts';
import type { Counters, HostUse, Use } from './answers.ts';
import { HARD_DISK } from './script.ts';
import { hostIdOf, isVm, powerOf } from './vm-facts.ts';

const MIB = 2n ** 20n;
const KIB = 2n ** 10n;
const NANOSECONDS_OF_UNIT = 100n;
const TOTAL = '_total';
/** A VM's name and the number of its processor. */
const PROCESSOR = /^(.*):Hv VP ([0-9]{1,5})$/s;

export function vmSamples(use: Use, counters: Counters, atMs: number): VmSample[] {
  const all = use.systems.filter(isVm);
  const shared = repeated(all.map((vm) => plainName(vm.ElementName)));
  const processorsOf = grouped(counters.processors ?? [], ({ Name }) => PROCESSOR.exec(Name)?.[1]);
  const summaryOf = new Map(use.summaries.map((one) => [one.Name.toLowerCase(), one]));
  const cardsOf = cardReader(use, counters);
  const drivesOf = driveReader(use, counters, new Set(all.map((vm) => vm.Name.toLowerCase())));
  return all
    .filter((vm) => /^(running|paused)$/.test(powerOf(vm.EnabledState)))
    .map((vm) => {
      const id = vm.Name.toLowerCase();
      const { MemoryUsage: memoryMib = null, NumberOfProcessors: processors = null } = summaryOf.get(id) ?? {};
      const rows = shared.has(plainName(vm.ElementName)) ? undefined : processorsOf.get(vm.ElementName);
      return {
        nativeId: vm.Name,
        atMs,
        // Of the worker process: another one, and all begins anew. A guest that is reset keeps it; its counters fall.
        run: vm.ProcessID === null || vm.ProcessID === 0 ? null : `worker ${vm.ProcessID}`,
        cpuNanoseconds: timeOfProcessors(rows, processors),
        memoryUsedBytes: memoryMib === null ? null : whole(memoryMib) * MIB,
        ...cardsOf(id),
        ...drivesOf(id),
      };
    });
}

/** The host's own time is in that of its processors, as the VMs' is. */
export function hostSample(use: HostUse, atMs: number): HostSample | undefined {
  const nativeId = hostIdOf(use);
  if (nativeId === '') return undefined;
  const [system] = use.system;
  const upMs = (system?.LocalDateTime ?? Number.NaN) - (system?.LastBootUpTime ?? Number.NaN);
  const [visible, free] = [system?.TotalVisibleMemorySize ?? null, system?.FreePhysicalMemory ?? null];
  const rows = use.logical.filter((row) => row.Name.toLowerCase() !== TOTAL);
  const times = rows.map((row) => row.PercentTotalRunTime);
  const isTimeKnown = repeated(rows.map((row) => row.Name)).size === 0;
  return {
    nativeId,
    atMs,
    // Nothing names a boot: the instant that Windows tells moves with its clock.
    run: null,
    beganMs: Number.isFinite(upMs) && upMs >= 0 ? atMs - upMs : null,
    cpuNanoseconds: isTimeKnown ? scaled(sum(times)) : null,
    cpuHoldsVms: true,
    memoryUsedBytes: visible === null || free === null || free > visible ? null : whole(visible - free) * KIB,
  };
}

/** @param expected - how many the VM has; null when it is not told. */
function timeOfProcessors(
  rows: NonNullable<Counters['processors']> | undefined,
  expected: number | null,
): bigint | null {
  if (rows === undefined || (expected !== null && rows.length !== expected)) return null;
  const indexes = new Set(rows.map((row) => Number(PROCESSOR.exec(row.Name)?.[2])));
  // Each once and none between missing: otherwise these are two VMs' or not all.
  if (indexes.size !== rows.length || Math.max(...indexes) !== rows.length - 1) return null;
  return scaled(sum(rows.map((row) => row.PercentTotalRunTime)));
}

type CardBytes = Pick<VmSample, 'receivedBytes' | 'sentBytes'>;

function cardReader(use: Use, { cards = [] }: Counters): (id: string) => CardBytes {
  const synthetic = grouped(use.synthetic, vmIn);
  const emulated = grouped(use.emulated, vmIn);
  return (id) => {
    // Emulated cards count elsewhere, by a name that nothing of theirs is in.
    const own = emulated.has(id) ? [] : (synthetic.get(id) ?? []);
    const rows = own.map((port) => {
      const device = port.InstanceID.split('\\')[1]?.toLowerCase() ?? '';
      return device === '' ? undefined : only(cards.filter((row) => row.Name.toLowerCase().includes(device)));
    });
    const total = (name: 'BytesReceivedPersec' | 'BytesSentPersec'): bigint | null =>
      sum(rows.map((row) => row?.[name] ?? null));
    return { receivedBytes: total('BytesReceivedPersec'), sentBytes: total('BytesSentPersec') };
  };
}

type DriveAmounts = Pick<VmSample, 'diskReadBytes' | 'diskWrittenBytes' | 'diskReads' | 'diskWrites'>;

/** @param vms - checkpoints name files too, which nothing of theirs reads. */
function driveReader(use: Use, { drives = [] }: Counters, vms: ReadonlySet<string>): (id: string) => DriveAmounts {
  const disks = use.storage.filter((one) => one.ResourceSubType === HARD_DISK && vms.has(vmIn(one)));
  const pathsOf = grouped(disks, vmIn);
  const shared = repeated(disks.flatMap((one) => one.HostResource.map(instanceOf)));
  const rowsOf = grouped(drives, (row) => instanceOf(row.Name));
  return (id) => {
    const paths = (pathsOf.get(id) ?? []).flatMap((one) => one.HostResource.map(instanceOf));
    const rows = paths.map((path) => (shared.has(path) ? undefined : only(rowsOf.get(path) ?? [])));
    const total = (name: Exclude<keyof NonNullable<Counters['drives']>[number], 'Name'>): bigint | null =>
      sum(rows.map((row) => row?.[name] ?? null));
    return {
      diskReadBytes: total('ReadBytesPersec'),
      diskWrittenBytes: total('WriteBytesPersec'),
      diskReads: total('ReadOperationsPerSec'),
      diskWrites: total('WriteOperationsPerSec'),
    };
  };
}

/** As files are named there; the long form of a path begins with `\\?\`. */
function instanceOf(path: string): string {
  return path
    .toLowerCase()
    .replaceAll('\\', '-')
    .replace(/^--\?-/, '');
}

/** What a name is without the number that a second one of it gets: what `shop#1` is, a VM of that name or another `shop`, is not told. */
function plainName(name: string): string {
  return name.toLowerCase().replace(/#[0-9]+$/, '');
}

function repeated(all: readonly string[]): ReadonlySet<string> {
  const seen = new Set<string>();
  return new Set(all.filter((one) => seen.has(one) || !seen.add(one)));
}

function only<T>(found: readonly T[]): T | undefined {
  return found.length === 1 ? found[0] : undefined;
}

/** Null when there is none, or one of them is not known. */
function sum(values: readonly (number | null)[]): bigint | null {
  if (values.length === 0) return null;
  let total = 0n;
  for (const value of values) {
    if (value === null) return null;
    total += whole(value);
  }
  return total;
}

function scaled(units: bigint | null): bigint | null {
  return units === null ? null : units * NANOSECONDS_OF_UNIT;
}

function whole(value: number): bigint {
  return BigInt(Math.floor(value));
}

function grouped<T>(all: readonly T[], keyOf: (one: T) => string | undefined): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const one of all) {
    const key = keyOf(one);
    if (key === undefined) continue;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [one]);
    else group.push(one);
  }
  return groups;
}

/** Whose a device is; one of a checkpoint is the checkpoint's. */
function vmIn({ InstanceID }: { readonly InstanceID: string }): string {
  return (/^Microsoft:([^\\]+)\\/.exec(InstanceID)?.[1] ?? '').toLowerCase();
}
