/**
 * Whose a VM is: what its tags say, unless rules with dates say otherwise. The rules are somebody else's (the daemon's rate
 * card); this is the port they come by. Pure.
 */
import { ownerOf, tagRecord } from './vm-row.ts';

export interface Owned {
  readonly owner: string | null;
  readonly project: string | null;
}

export interface OwnedSubject {
  readonly source: string;
  readonly host: string;
  readonly name: string;
  readonly tags: Readonly<Record<string, string>>;
  /** What its hypervisor says: it stands where no rule does. */
  readonly told: Owned;
}

export interface OwnerRules {
  /** The same for the same rules: what was decided by others is decided anew. */
  readonly fingerprint: string;
  /** All moments at which what they say may change, UTC milliseconds, sorted. */
  readonly cutsMs: readonly number[];
  at(subject: OwnedSubject, atMs: number): Owned;
}

export const TAGS_ONLY: OwnerRules = { fingerprint: 'tags', cutsMs: [], at: ({ told }) => told };

/** No host that is known: a VM that is off on many hypervisors belongs to none. */
export const NO_HOST = 'none';

/** What tags say, as `owner=` and `project=`; a project alone is an owner too. */
export function toldBy(tags: readonly string[]): Owned {
  const project = tagRecord(tags)['project'];
  return { owner: ownerOf({ tags }), project: project === undefined || project === '' ? null : project };
}

export function subjectOf(
  facts: { readonly name: string; readonly tags: readonly string[] },
  place: { source: string; host: string },
): OwnedSubject {
  const { name, tags } = facts;
  return { source: place.source, host: place.host || NO_HOST, name, tags: tagRecord(tags), told: toldBy(tags) };
}

export interface OwnedPiece extends Owned {
  readonly startMs: number;
  readonly endMs: number;
}

/** The rules in force, which may be replaced at any time. */
export class OwnerBook {
  #rules = TAGS_ONLY;

  get rules(): OwnerRules {
    return this.#rules;
  }

  replace(rules: OwnerRules): void {
    this.#rules = rules;
  }

  /** Names all that an answer at that time depends on: two times of one epoch have the same answers. */
  epochAt(atMs: number): string {
    const { fingerprint, cutsMs } = this.#rules;
    return `${fingerprint}@${cutsMs.findLast((cut) => cut <= atMs) ?? 'first'}`;
  }

  /** When the next epoch begins. */
  nextCutMs(atMs: number): number | undefined {
    return this.#rules.cutsMs.find((cut) => cut > atMs);
  }

  /** A stretch of time as pieces of one owner and project each, one after the other; a stretch of no length is one piece. */
  pieces(
    subject: OwnedSubject,
    { startMs, endMs }: { readonly startMs: number; readonly endMs: number },
  ): OwnedPiece[] {
    const rules = this.#rules;
    const pieces: OwnedPiece[] = [{ startMs, endMs, ...rules.at(subject, startMs) }];
    for (const cut of rules.cutsMs) {
      const last = pieces.at(-1);
      if (last === undefined || cut <= startMs || cut >= endMs) continue;
      const next = rules.at(subject, cut);
      if (next.owner === last.owner && next.project === last.project) continue;
      pieces.splice(-1, 1, { ...last, endMs: cut }, { startMs: cut, endMs, ...next });
    }
    return pieces;
  }
}
