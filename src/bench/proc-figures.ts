/** What the kernel says of a process: memory and processor time, read from /proc. The readers are pure. */
import { BerthError } from '#base';
import { files } from '#platform';

/** Clock ticks a second of /proc/PID/stat. @source sysconf(_SC_CLK_TCK), 100 on every Linux Node runs on */
export const TICKS_PER_SECOND = 100;
const KIB = 1024;

export interface MemoryShares {
  /** Pages that others have too are counted in part. */
  readonly pssBytes: number;
  readonly privateDirtyBytes: number;
  /** Mapped by others as well, counted in full. */
  readonly sharedBytes: number;
}

/** @throws bench.process (unavailable) when the process has ended or may not be looked at. */
export async function memorySharesOf(pid: number): Promise<MemoryShares> {
  return readMemoryShares(await procFile(pid, 'smaps_rollup'));
}

/** User and system time so far, all threads. @throws bench.process (unavailable). */
export async function ticksOf(pid: number): Promise<number> {
  return readTicks(await procFile(pid, 'stat'));
}

/** @source proc_pid_smaps(5) */
export function readMemoryShares(text: string): MemoryShares {
  const bytes = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+([0-9]+) kB$`, 'm').exec(text)?.[1] ?? Number.NaN) * KIB;
  return {
    pssBytes: bytes('Pss'),
    privateDirtyBytes: bytes('Private_Dirty'),
    sharedBytes: bytes('Shared_Clean') + bytes('Shared_Dirty'),
  };
}

/** Fields 14 and 15. The second field may hold anything, so they are counted from the last bracket. @source proc_pid_stat(5) */
export function readTicks(text: string): number {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

/** Bytes a new process can have without anything being swapped. */
export async function availableMemoryBytes(): Promise<number> {
  return Number(/^MemAvailable:\s+([0-9]+) kB$/m.exec(await files.readFile('/proc/meminfo', 'utf8'))?.[1] ?? 0) * KIB;
}

async function procFile(pid: number, name: string): Promise<string> {
  const text = await files.readTextIfExists(`/proc/${pid}/${name}`);
  if (text !== undefined && text !== '') return text;
  throw new BerthError('unavailable', 'bench.process', `process ${pid} has ended, or this user may not look at it`, {
    hint: "a VM's QEMU belongs to another user: run as root",
  });
}
