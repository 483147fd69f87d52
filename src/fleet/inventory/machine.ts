/**
 * Which machine is this host? Pure.
 *
 * Two sources show one machine when the UUIDs of their hosts are the same and their names do not contradict it: boards whose
 * makers left one number in all of them are many. Once joined, hosts stay one machine for as long as their UUIDs agree,
 * whatever they are called. A source that shows one UUID twice at a time says nothing by it.
 */
import { normalizeUuid } from '../facts.ts';
import { firstLabel, isSharedUuid } from '../host-words.ts';

export interface KnownHost {
  readonly sourceId: number;
  readonly machine: number;
  readonly name: string;
}

/**
 * A host's UUID for comparing: hypervisors differ in the order of its first bytes, so that it is the smaller of the two ways of
 * writing it. Null for one that tells nothing apart.
 */
export function comparableUuid(told: string | null): string | null {
  const uuid = told === null ? undefined : normalizeUuid(told);
  if (uuid === undefined || isSharedUuid(uuid)) return null;
  const other = normalizeUuid(uuid, 'mixed') ?? uuid;
  return uuid < other ? uuid : other;
}

/**
 * @param host - `machine`: the one it was, undefined for a new one or one whose UUID is another one now.
 * @param sameUuid - every other host with the same UUID that some source shows now.
 * @returns the machine that it is; undefined for one of its own that nobody has yet.
 */
export function machineOf(
  host: { readonly sourceId: number; readonly name: string; readonly machine: number | undefined },
  sameUuid: readonly KnownHost[],
): number | undefined {
  const isCopied = sameUuid.some(({ sourceId }) => sourceId === host.sourceId);
  const joined = isCopied
    ? []
    : sameUuid.filter(
        (one) =>
          sameUuid.filter(({ sourceId }) => sourceId === one.sourceId).length === 1 &&
          (one.machine === host.machine || namesAgree(one.name, host.name)),
      );
  const machines = [...joined.map(({ machine }) => machine), ...(host.machine === undefined ? [] : [host.machine])];
  return machines.length === 0 ? undefined : Math.min(...machines);
}

function namesAgree(one: string, other: string): boolean {
  return firstLabel(one) === firstLabel(other) || isNameless(one) || isNameless(other);
}

/** An address, or what every machine calls itself, contradicts no name. */
function isNameless(name: string): boolean {
  return name === '' || /^[0-9.]+$/.test(name) || name.includes(':') || firstLabel(name) === 'localhost';
}
