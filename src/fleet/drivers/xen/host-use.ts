/**
 * What a Xen host used: dom0's processor time, which is what the host itself needed, and memory that is not free.
 *
 * Guests' time is in their own rows. What the hypervisor takes for itself no tool of dom0 tells: it counts as idle.
 */
import { BerthError } from '#base';
import { nowMs } from '#platform';
import type { HostSample, HostSampleFacet } from '../../driver.ts';
import { BOOT, HOST_USE } from './commands.ts';
import { parseInfo } from './domain-facts.ts';
import { parseListing } from './listing.ts';
import type { XenShell } from './shell.ts';

const TENTH_NANOSECONDS = 100_000_000n;
const MIB = 1_048_576n;
const DOM0_NAME = 'Domain-0';

/** @throws xen.boot (invalid) when what is there is no boot's id. */
export async function readBootId(shell: XenShell): Promise<string> {
  const text = (await shell.output(BOOT)).trim();
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)) return text;
  throw new BerthError('invalid', 'xen.boot', `dom0 tells no id of its boot: ${JSON.stringify(text.slice(0, 100))}`);
}

export function hostSampleFacet(
  shell: XenShell,
  host: { readonly hostId: string; readonly bootId: string },
): HostSampleFacet {
  return { read: async () => [hostSampleOf(await shell.output(HOST_USE), { ...host, atMs: nowMs() })] };
}

/** @param text - what HOST_USE says: three parts with an empty line between. Pure. @throws xen.listing, xen.info (invalid) */
export function hostSampleOf(
  text: string,
  { hostId, bootId, atMs }: { readonly hostId: string; readonly bootId: string; readonly atMs: number },
): HostSample {
  const [listing = '', info = '', uptime = ''] = text.split('\n\n');
  const dom0 = parseListing(`${listing}\n`, new Map([[0, DOM0_NAME]])).find((row) => row.domid === 0);
  const fields = parseInfo(info);
  const mib = (name: string): bigint | null =>
    /^[0-9]{1,12}$/.test(fields.get(name) ?? '') ? BigInt(fields.get(name) ?? '0') : null;
  const [total, free] = [mib('total_memory'), mib('free_memory')];
  const upSeconds = Number(/^([0-9]+(?:\.[0-9]+)?) /.exec(uptime)?.[1] ?? Number.NaN);
  return {
    nativeId: hostId,
    atMs,
    run: bootId,
    beganMs: Number.isFinite(upSeconds) ? Math.max(0, Math.round(atMs - upSeconds * 1_000)) : null,
    cpuNanoseconds: dom0 === undefined ? null : BigInt(dom0.cpuTenths) * TENTH_NANOSECONDS,
    cpuHoldsVms: false,
    memoryUsedBytes: total === null || free === null || free > total ? null : (total - free) * MIB,
  };
}
