/**
 * What one VM takes right now: of processors, memory, network and disks. Asked for, never collected: to read where a QEMU's
 * memory is costs a millisecond or two.
 */
import * as v from 'valibot';
import { files, nowMs, sleep } from '#platform';
import type { GuestLink } from './guest-link.ts';
import type { RunningMachine } from './machine.ts';
import { volumeSlot } from './qemu-command.ts';

/** A guest answers in a millisecond; one whose processors are all busy is not waited for. */
const GUEST_PATIENCE_MS = 300;
/** For those who ask in passing: `docker exec` inspects its VM first. */
export const GLANCE_MS = 50;
const QMP_PATIENCE_MS = 500;
/** Of /proc/PID/stat and /proc/stat. @source sysconf(_SC_CLK_TCK), 100 on every Linux Node runs on */
const NS_PER_TICK = 10_000_000;

/** Bytes of the host's memory. */
export interface HostMemory {
  /** Mapped and present, whoever else has the same pages. */
  readonly residentBytes: number;
  /** What ending this VM would give back. */
  readonly uniqueBytes: number;
  /** Pages of the guest's memory that are still the template's. */
  readonly templateSharedBytes: number;
}

export interface GuestUsage {
  readonly usedBytes: number;
  readonly processes: number;
}

/** Seen from the guest. */
export interface NetworkUsage {
  readonly received: TrafficCount;
  readonly sent: TrafficCount;
}

export interface TrafficCount {
  readonly bytes: number;
  readonly packets: number;
  readonly errors: number;
  readonly dropped: number;
}

export interface DiskUsage {
  /** `root`, `data`, `volume0` and so on, in the order of the guest's numbers. */
  readonly device: string;
  readonly readBytes: number;
  readonly readOperations: number;
  readonly writtenBytes: number;
  readonly writeOperations: number;
}

export interface VmUsage {
  readonly atMs: number;
  /** All of QEMU's processor time since it began: the guest's and what emulating it costs. */
  readonly cpuUserNs: number;
  readonly cpuSystemNs: number;
  /** Of all processors of the host since it started, idle or not. */
  readonly hostCpuNs: number;
  readonly memory: HostMemory | undefined;
  /** Absent for a guest that does not answer: paused, or too busy. */
  readonly guest: GuestUsage | undefined;
  /** Absent without a tap. */
  readonly network: NetworkUsage | undefined;
  readonly disks: readonly DiskUsage[];
}

/** What a VM that runs or is paused has to be looked at through. */
export interface UsageSources {
  readonly machine: RunningMachine;
  /** Absent where nobody would answer. */
  readonly link: GuestLink | undefined;
  readonly tap: string | undefined;
  /** How many slots have one. */
  readonly volumes: number;
}

export async function usageOf({ machine, link, tap, volumes }: UsageSources): Promise<VmUsage> {
  const { pid } = machine.identity;
  const [own, host, memory, guest, network, disks] = await Promise.all([
    textOf(`/proc/${pid}/stat`),
    textOf('/proc/stat'),
    memoryOf(machine),
    link === undefined ? undefined : guestUsage(link),
    tap === undefined ? undefined : networkUsage(tap),
    disksOf(machine, volumes),
  ]);
  const { userNs, systemNs } = cpuOf(own);
  const [atMs, hostCpuNs] = [nowMs(), hostCpuOf(host)];
  return { atMs, cpuUserNs: userNs, cpuSystemNs: systemNs, hostCpuNs, memory, guest, network, disks };
}

/** Undefined when the machine ended, or where its memory may not be looked at. */
export async function memoryOf(machine: RunningMachine): Promise<HostMemory | undefined> {
  const text = await textOf(`/proc/${machine.identity.pid}/smaps`);
  return text === '' ? undefined : hostMemoryOf(text);
}

export async function guestUsedBytes(link: GuestLink, patienceMs: number): Promise<number | undefined> {
  const memory = await within(patienceMs, link.memory());
  return memory === undefined ? undefined : memory.totalBytes - memory.availableBytes;
}

async function guestUsage(link: GuestLink): Promise<GuestUsage | undefined> {
  const answers = Promise.all([guestUsedBytes(link, GUEST_PATIENCE_MS), within(GUEST_PATIENCE_MS, link.top())]);
  const [usedBytes, processes] = await answers;
  return usedBytes === undefined ? undefined : { usedBytes, processes: processes?.length ?? 0 };
}

/** Undefined when it takes longer, or fails: then there is no answer now. */
export async function within<T>(ms: number, answer: Promise<T>): Promise<T | undefined> {
  const limit = new AbortController();
  const none = (): undefined => undefined;
  const found = await Promise.race([answer.catch(none), sleep(ms, limit.signal).then(none, none)]);
  limit.abort();
  return found;
}

async function textOf(path: string): Promise<string> {
  return (await files.readTextIfExists(path).catch(() => undefined)) ?? '';
}

/** @source proc(5), /proc/PID/stat: utime and stime, fields 14 and 15 */
export function cpuOf(stat: string): { readonly userNs: number; readonly systemNs: number } {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { userNs: Number(fields[11] ?? 0) * NS_PER_TICK, systemNs: Number(fields[12] ?? 0) * NS_PER_TICK };
}

/** @source proc(5), /proc/stat: the first eight fields; those of guests are in them already */
export function hostCpuOf(stat: string): number {
  const fields = /^cpu +(.*)$/m.exec(stat)?.[1]?.split(' ').slice(0, 8) ?? [];
  return fields.reduce((sum, field) => sum + Number(field), 0) * NS_PER_TICK;
}

interface Mapping {
  readonly bytes: bigint;
  readonly isPrivate: boolean;
  readonly isFile: boolean;
  readonly isWritable: boolean;
  readonly figures: Readonly<Record<string, number>>;
}

/**
 * From /proc/PID/smaps of a QEMU. The guest's memory is the largest writable mapping of a file. Mapped privately, its pages
 * are the template's until they are written, and anonymous from then on; `Private_Dirty` would not do: it counts a
 * template's page as well while only one clone maps it. A machine that booted has its memory shared with nobody.
 *
 * @source proc(5), /proc/PID/smaps
 */
export function hostMemoryOf(smaps: string): HostMemory {
  const mappings = mappingsOf(smaps);
  const isGuest = ({ isFile, isWritable }: Mapping): boolean => isFile && isWritable;
  const guest = mappings
    .filter(isGuest)
    .reduce<Mapping | undefined>((most, one) => (most === undefined || one.bytes > most.bytes ? one : most), undefined);
  const sum = (name: string, of: readonly Mapping[]): number =>
    of.reduce((total, { figures }) => total + (figures[name] ?? 0), 0);
  const others = mappings.filter((mapping) => mapping !== guest);
  const guestResident = guest?.figures['Rss'] ?? 0;
  const templateSharedBytes = guest?.isPrivate === true ? guestResident - (guest.figures['Anonymous'] ?? 0) : 0;
  return {
    residentBytes: sum('Rss', mappings),
    uniqueBytes: sum('Private_Dirty', others) + guestResident - templateSharedBytes,
    templateSharedBytes,
  };
}

function mappingsOf(smaps: string): Mapping[] {
  const mappings: (Mapping & { figures: Record<string, number> })[] = [];
  for (const line of smaps.split('\n')) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)$/.exec(line);
    if (head !== null) {
      const [, start, end, flags = '', path = ''] = head;
      const bytes = BigInt(`0x${end}`) - BigInt(`0x${start}`);
      const isFile = path.startsWith('/');
      mappings.push({ bytes, isPrivate: flags[3] === 'p', isFile, isWritable: flags[1] === 'w', figures: {} });
      continue;
    }
    const [, name, kibibytes] = /^([A-Za-z_]+): +([0-9]+) kB$/.exec(line) ?? [];
    const last = mappings.at(-1);
    if (name !== undefined && last !== undefined) last.figures[name] = Number(kibibytes) * 1024;
  }
  return mappings;
}

/** A tap's counters are the host's: what it received, the guest sent. */
async function networkUsage(tap: string): Promise<NetworkUsage | undefined> {
  const read = async (name: string): Promise<number> =>
    Number((await textOf(`/sys/class/net/${tap}/statistics/${name}`)).trim());
  const count = async (way: 'rx' | 'tx'): Promise<TrafficCount> => {
    const names = ['bytes', 'packets', 'errors', 'dropped'];
    const [bytes = 0, packets = 0, errors = 0, dropped = 0] = await Promise.all(
      names.map((name) => read(`${way}_${name}`)),
    );
    return { bytes, packets, errors, dropped };
  };
  if (!(await files.exists(`/sys/class/net/${tap}`))) return undefined;
  const [sent, received] = await Promise.all([count('rx'), count('tx')]);
  return { received, sent };
}

/** @source QEMU's QAPI, query-blockstats */
const BlockStatistics = v.array(
  v.object({
    qdev: v.optional(v.string()),
    stats: v.object({
      rd_bytes: v.number(),
      wr_bytes: v.number(),
      rd_operations: v.number(),
      wr_operations: v.number(),
    }),
  }),
);

async function disksOf(machine: RunningMachine, volumes: number): Promise<DiskUsage[]> {
  const answer = await machine.qmp.execute('query-blockstats', {}, QMP_PATIENCE_MS).catch(() => []);
  const parsed = v.safeParse(BlockStatistics, answer);
  if (!parsed.success) return [];
  const devices = ['root', 'data', ...Array.from({ length: volumes }, (_, index) => volumeSlot(index))];
  return devices.flatMap((device) => {
    // A device is named by its path: /machine/peripheral/root/virtio-backend.
    const found = parsed.output.find(({ qdev }) => qdev?.split('/').includes(device));
    if (found === undefined) return [];
    const { rd_bytes, wr_bytes, rd_operations, wr_operations } = found.stats;
    return [
      {
        device,
        readBytes: rd_bytes,
        readOperations: rd_operations,
        writtenBytes: wr_bytes,
        writeOperations: wr_operations,
      },
    ];
  });
}
