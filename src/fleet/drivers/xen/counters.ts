/**
 * From rows and the counters of dom0's back ends to samples. Pure.
 *
 * xentop prints the same counters, rounded to KiB and found by name; dom0's kernel has them exact and by domain.
 */
import type { VmSample } from '../../driver.ts';
import { nativeIdOf } from './domain-facts.ts';
import type { DomainRow } from './listing.ts';

const TENTH_NANOSECONDS = 100_000_000n;
const MIB = 1_048_576n;
/** @source Linux, drivers/block/xen-blkback/xenbus.c: rd_sect and wr_sect */
const SECTOR_BYTES = 512n;

type Counters = Record<'rd_req' | 'wr_req' | 'rd_sect' | 'wr_sect' | 'rx_bytes' | 'tx_bytes', bigint | null>;

export function parseCounters(text: string): Map<number, Counters> {
  const byDomain = new Map<number, Counters>();
  for (const line of text.split('\n')) {
    const parts =
      /^\/sys\/bus\/xen-backend\/devices\/(?:vbd-([0-9]+)-[0-9]+\/statistics\/(rd_req|wr_req|rd_sect|wr_sect)|vif-([0-9]+)-[0-9]+\/net\/[^/]+\/statistics\/(rx_bytes|tx_bytes)):([0-9]{1,20})$/.exec(
        line,
      );
    if (parts === null) continue;
    const domid = Number(parts[1] ?? parts[3]);
    const name = (parts[2] ?? parts[4]) as keyof Counters;
    const counters = byDomain.get(domid) ?? {
      rd_req: null,
      wr_req: null,
      rd_sect: null,
      wr_sect: null,
      rx_bytes: null,
      tx_bytes: null,
    };
    counters[name] = (counters[name] ?? 0n) + BigInt(parts[5] ?? '0');
    byDomain.set(domid, counters);
  }
  return byDomain;
}

export function samplesOf(
  rows: readonly DomainRow[],
  counters: ReadonlyMap<number, Counters>,
  { atMs, bootId }: { readonly atMs: number; readonly bootId: string },
): VmSample[] {
  return rows
    .filter((row) => row.domid !== 0 && (row.powerState === 'running' || row.powerState === 'paused'))
    .map((row) => {
      const of = counters.get(row.domid);
      const bytes = (sectors: bigint | null | undefined): bigint | null =>
        sectors === null || sectors === undefined ? null : sectors * SECTOR_BYTES;
      return {
        nativeId: nativeIdOf(row),
        atMs,
        run: runName(bootId, row.domid),
        cpuNanoseconds: BigInt(row.cpuTenths) * TENTH_NANOSECONDS,
        memoryUsedBytes: BigInt(row.memoryMib) * MIB,
        diskReadBytes: bytes(of?.rd_sect),
        diskWrittenBytes: bytes(of?.wr_sect),
        diskReads: of?.rd_req ?? null,
        diskWrites: of?.wr_req ?? null,
        // What dom0's end sends is what the guest receives.
        receivedBytes: of?.tx_bytes ?? null,
        sentBytes: of?.rx_bytes ?? null,
      };
    });
}

/** Xen gives every start a new number, and begins anew with 1 when the host boots. */
export function runName(bootId: string, domid: number): string {
  return `${bootId}.${domid}`;
}
