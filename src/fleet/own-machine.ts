/** The machine that berth itself runs on, as hosts are told from one another. */
import { hostFacts, machineUuids } from '#platform';
import { normalizeUuid } from './facts.ts';

/** Null where the machine has nothing that tells it from others. */
export async function ownMachineUuid(): Promise<string | null> {
  for (const told of await machineUuids()) {
    const uuid = normalizeUuid(told);
    if (uuid !== undefined && !isSharedUuid(uuid)) return uuid;
  }
  return null;
}

/** Whether a host by this name that answers on a socket of this machine is this machine. */
export function isOwnName(name: string): boolean {
  return firstLabel(name) === firstLabel(hostFacts().hostName);
}

export function firstLabel(name: string): string {
  return name.toLowerCase().split('.', 1)[0] ?? '';
}

/**
 * Numbers that makers of mainboards left in the firmware of many, in both byte orders: they tell nothing apart. No list of
 * them is official.
 */
const SHARED_UUIDS: ReadonlySet<string> = new Set([
  '03000200-0400-0500-0006-000700080009',
  '00020003-0004-0005-0006-000700080009',
  '12345678-1234-5678-90ab-cddeefaabbcc',
  '78563412-3412-7856-90ab-cddeefaabbcc',
]);

export function isSharedUuid(uuid: string): boolean {
  return SHARED_UUIDS.has(uuid) || new Set(uuid.replaceAll('-', '')).size === 1;
}
