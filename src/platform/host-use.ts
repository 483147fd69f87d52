/**
 * What this host used since it booted, and now.
 *
 * @source proc(5): /proc/stat, /proc/meminfo, /proc/uptime, /proc/sys/kernel/random/boot_id
 */
import { readFile } from 'node:fs/promises';

/** USER_HZ, which Linux shows to every architecture that berth runs on. */
const TICK_NANOSECONDS = 10_000_000n;

export interface HostUseReading {
  /** Another one after each boot. */
  readonly bootId: string;
  readonly upMs: number;
  /** Time of all processors that was neither idle nor waiting for disks, guests' included, since the boot. */
  readonly cpuNanoseconds: bigint;
  /** What new processes could not have without swapping. */
  readonly memoryUsedBytes: bigint;
}

export async function readHostUse(): Promise<HostUseReading> {
  const [stat, memory, uptime, bootId] = await Promise.all(
    ['/proc/stat', '/proc/meminfo', '/proc/uptime', '/proc/sys/kernel/random/boot_id'].map((path) =>
      readFile(path, 'utf8'),
    ),
  );
  return hostUseOf({ stat: stat ?? '', memory: memory ?? '', uptime: uptime ?? '', bootId: bootId ?? '' });
}

/**
 * The first line of /proc/stat has user, nice, system, idle, iowait, irq, softirq, steal; guests' time is in user and nice
 * already. What another machine took (steal) no process of this host used. Pure.
 */
export function hostUseOf(texts: {
  readonly stat: string;
  readonly memory: string;
  readonly uptime: string;
  readonly bootId: string;
}): HostUseReading {
  const ticks = (/^cpu +([0-9 ]+)/.exec(texts.stat)?.[1] ?? '').trim().split(/ +/).map(BigInt);
  const [user = 0n, nice = 0n, system = 0n, , , irq = 0n, softirq = 0n] = ticks;
  const kib = (name: string): bigint =>
    BigInt(new RegExp(`^${name}: +([0-9]+) kB`, 'm').exec(texts.memory)?.[1] ?? '0');
  return {
    bootId: texts.bootId.trim(),
    upMs: Math.round(Number(texts.uptime.split(' ')[0] ?? '0') * 1_000),
    cpuNanoseconds: (user + nice + system + irq + softirq) * TICK_NANOSECONDS,
    memoryUsedBytes: (kib('MemTotal') - kib('MemAvailable')) * 1024n,
  };
}
