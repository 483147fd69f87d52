/** What hosts themselves needed, as it was measured hour by hour, laid over their intervals. Pure. */
import { Exact } from '../exact.ts';
import { type HostInterval, type HostOverhead, machineOf } from './facts.ts';

const NANOSECONDS_OF_MS = 1_000_000n;

/**
 * Cuts each host's interval where its measured pieces begin and end. A piece that reaches beyond the interval counts as a whole in
 * what lies within it: a source is confirmed a little later than its counters are read. Amounts are kept exactly: average × length.
 *
 * @param overheads - of one machine they do not overlap, nor do its intervals.
 */
export function withMeasuredOverhead(
  hosts: readonly HostInterval[],
  overheads: readonly HostOverhead[],
): readonly HostInterval[] {
  if (overheads.length === 0) return hosts;
  const byHost = new Map<string, HostOverhead[]>();
  for (const one of overheads) {
    const known = byHost.get(machineOf(one));
    if (known === undefined) byHost.set(machineOf(one), [one]);
    else known.push(one);
  }
  const counted = new Set<HostOverhead>();
  return hosts.flatMap((host) => {
    const own = (byHost.get(machineOf(host)) ?? []).filter(
      (one) => !counted.has(one) && one.startMs < host.endMs && one.endMs > host.startMs,
    );
    for (const one of own) counted.add(one);
    return cut(
      host,
      own.sort((a, b) => a.startMs - b.startMs),
    );
  });
}

function cut(host: HostInterval, overheads: readonly HostOverhead[]): HostInterval[] {
  const pieces: HostInterval[] = [];
  let fromMs = host.startMs;
  for (const one of overheads) {
    const [startMs, endMs] = [Math.max(one.startMs, host.startMs), Math.min(one.endMs, host.endMs)];
    if (startMs > fromMs) pieces.push({ ...host, startMs: fromMs, endMs: startMs });
    const length = BigInt(endMs - startMs);
    const measured = {
      vcpus: Exact.of(one.cpuNs, NANOSECONDS_OF_MS * length),
      memoryBytes: Exact.of(one.memoryByteMs, length),
    };
    pieces.push({ ...host, startMs, endMs, measured });
    fromMs = endMs;
  }
  if (fromMs < host.endMs) pieces.push({ ...host, startMs: fromMs });
  return pieces;
}
