/** The machine that berth itself runs on, as hosts are told from one another. */
import { hostFacts, machineUuids } from '#platform';
import { normalizeUuid } from './facts.ts';
import { firstLabel, isSharedUuid } from './host-words.ts';

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
