/**
 * What a host used, as libvirt reads it off the host's kernel: time of all processors since the boot, and memory.
 *
 * Each of the two answers is a list of (name, number): time in nanoseconds by what it was spent on, memory in KiB.
 *
 * @source libvirt, virNodeGetCPUStats and virNodeGetMemoryStats (names and units are facts)
 */
import { BerthError, messageOf } from '#base';
import { nowMs } from '#platform';
import type { HostSample, HostSampleFacet } from '../../driver.ts';
import type { HypervisorHost } from '../../facts.ts';
import type { LibvirtConnection } from './connection.ts';
import { PROCEDURE } from './procedures.ts';
import { type XdrReader, XdrWriter } from './xdr.ts';

/** Of all processors, of all nodes. */
const ALL = -1;
/** libvirt knows six of time and four of memory, and refuses to tell more than sixteen. */
const MOST_FIGURES = 16;

type Figures = ReadonlyMap<string, bigint>;

/** @returns why not, where the hypervisor does not tell it: for Xen and ESX libvirt cannot. @throws libvirt.broken */
export async function hostSampleFacet(
  connection: LibvirtConnection,
  host: HypervisorHost,
): Promise<HostSampleFacet | string> {
  const read = async (): Promise<readonly HostSample[]> => {
    const [times, memory] = await Promise.all([
      figures(connection, PROCEDURE.nodeGetCpuStats),
      figures(connection, PROCEDURE.nodeGetMemoryStats),
    ]);
    return [hostSampleOf({ times, memory, host, atMs: nowMs() })];
  };
  try {
    await read();
    return { read };
  } catch (error) {
    if (error instanceof BerthError && error.code === 'libvirt.broken') throw error;
    return `what the host itself uses is not told: ${messageOf(error)}`;
  }
}

/**
 * Asked for none, libvirt says how many there are. The one procedure takes whose figures and how many, the other one how many
 * and whose.
 */
async function figures(connection: LibvirtConnection, procedure: number): Promise<Figures> {
  const ask = (count: number): Promise<XdrReader> => {
    const [first, second] = procedure === PROCEDURE.nodeGetCpuStats ? [ALL, count] : [count, ALL];
    return connection.call(procedure, new XdrWriter().int(first).int(second).uint(0));
  };
  const none = await ask(0);
  none.list(readFigure);
  const count = Math.min(Math.max(none.int(), 0), MOST_FIGURES);
  return new Map((await ask(count)).list(readFigure));
}

function readFigure(reader: XdrReader): readonly [string, bigint] {
  return [reader.string(), reader.unsignedHyper()];
}

export interface HostReading {
  readonly times: Figures;
  readonly memory: Figures;
  readonly host: Pick<HypervisorHost, 'nativeId' | 'threads'>;
  readonly atMs: number;
}

/**
 * The guests' time is part of `user`. Waiting for disks is idle time of a processor. When the host booted is not told, but its times
 * together are as long as it has been up, times its processors. Pure.
 */
export function hostSampleOf({ times, memory, host, atMs }: HostReading): HostSample {
  const busy = sumOf(times, ['kernel', 'user', 'intr']);
  const idle = sumOf(times, ['idle', 'iowait']);
  const threads = BigInt(Math.trunc(host.threads ?? 0));
  const upMs = busy === null || idle === null || threads === 0n ? null : (busy + idle) / threads / 1_000_000n;
  const [total, free] = [memory.get('total'), memory.get('free')];
  // What the kernel keeps of files it gives away when somebody needs it.
  const spareKib = (free ?? 0n) + (memory.get('buffers') ?? 0n) + (memory.get('cached') ?? 0n);
  const isMemoryTold = total !== undefined && free !== undefined && total >= spareKib;
  return {
    nativeId: host.nativeId,
    atMs,
    run: null,
    beganMs: upMs === null ? null : Math.max(0, atMs - Number(upMs)),
    cpuNanoseconds: idle === null ? null : busy,
    cpuHoldsVms: true,
    memoryUsedBytes: isMemoryTold ? (total - spareKib) * 1024n : null,
  };
}

function sumOf(figures: Figures, names: readonly string[]): bigint | null {
  const known = names.flatMap((name) => figures.get(name) ?? []);
  return known.length === 0 ? null : known.reduce((sum, one) => sum + one, 0n);
}
