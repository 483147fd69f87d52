/**
 * Which VM is this? Pure.
 *
 * A source knows its VMs by ids of its own. Two sightings are of one VM when they have the same UUID and nothing else
 * about them contradicts it: UUIDs alone are copied along with disks and configurations. Hardware addresses decide where
 * both sightings have some (they must share one); the name decides where one has none. A source that shows the same
 * UUID twice at one time shows two VMs.
 */

export interface Evidence {
  readonly uuid: string | null;
  readonly name: string;
  readonly macs: readonly string[];
}

/** A VM that had this UUID in some sighting, now or earlier. */
export interface Candidate extends Evidence {
  readonly vmId: number;
  /** No source sees it now. */
  readonly isGone: boolean;
}

/** A sighting nobody has matched yet. */
export interface Stranger extends Evidence {
  readonly nativeId: string;
}

/** 0: these are two VMs. More: one VM, the surer the larger. */
export function agreement(one: Evidence, other: Evidence): number {
  if (one.uuid === null || one.uuid !== other.uuid) return 0;
  const shared = one.macs.filter((mac) => other.macs.includes(mac)).length;
  const sameName = one.name === other.name ? 1 : 0;
  if (shared > 0) return 2 * shared + sameName;
  const bothHaveMacs = one.macs.length > 0 && other.macs.length > 0;
  return bothHaveMacs ? 0 : sameName;
}

/**
 * Pairs strangers with VMs that are already known, each at most once, the surest pairs first. A VM that somebody sees
 * now goes before one that is gone. A stranger for whom two VMs are as likely is nobody known.
 *
 * @returns native id → VM.
 */
export function matchStrangers(
  strangers: readonly Stranger[],
  candidatesOf: (uuid: string) => readonly Candidate[],
): Map<string, Candidate> {
  const pairs = strangers.flatMap((stranger) => {
    const candidates = stranger.uuid === null ? [] : candidatesOf(stranger.uuid);
    return candidates.flatMap((candidate) => {
      const sureness = agreement(stranger, candidate);
      return sureness === 0 ? [] : [{ stranger, candidate, weight: sureness * 2 + (candidate.isGone ? 0 : 1) }];
    });
  });
  pairs.sort((a, b) => b.weight - a.weight || compare(a.stranger.nativeId, b.stranger.nativeId));
  const matched = new Map<string, Candidate>();
  const taken = new Set<number>();
  const doubtful = new Set<string>();
  for (const { stranger, candidate, weight } of pairs) {
    const { nativeId } = stranger;
    if (matched.has(nativeId) || taken.has(candidate.vmId) || doubtful.has(nativeId)) continue;
    const rivals = pairs.filter(
      (other) =>
        other.stranger.nativeId === nativeId &&
        other.weight === weight &&
        other.candidate.vmId !== candidate.vmId &&
        !taken.has(other.candidate.vmId),
    );
    if (rivals.length > 0) {
      doubtful.add(nativeId);
      continue;
    }
    matched.set(nativeId, candidate);
    taken.add(candidate.vmId);
  }
  return matched;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
