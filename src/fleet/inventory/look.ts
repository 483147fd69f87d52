/**
 * A look at a source, taken page by page. Pure, over what is known.
 *
 * Whoever is known by a native id, and whoever has a UUID that nobody had, is told at once: no later page can make them
 * somebody else. A stranger whose UUID is known waits for the end of the look: who fits better may come later, and that a VM
 * left its old id shows only then. However a look is cut into pages, the inventory is the same (property test).
 */
import type { VmFacts } from '../facts.ts';
import type { Observation, Previous } from './reconcile.ts';

export type Part = Extract<Observation, { kind: 'part' }>;

export class Look {
  /** Native ids that were there, read or not. */
  readonly #present = new Set<string>();
  /** Strangers who may be somebody known, by native id: the later word counts. */
  readonly #waiting = new Map<string, VmFacts>();

  /** These are there, whatever is known of them. */
  note(nativeIds: Iterable<string>): void {
    for (const nativeId of nativeIds) this.#present.add(nativeId);
  }

  /** @returns whom of these to write now; the others wait. */
  take(previous: Previous, vms: readonly VmFacts[]): VmFacts[] {
    return vms.filter((facts) => {
      this.#present.add(facts.nativeId);
      const { uuid, nativeId } = facts;
      const isPlain = uuid === null || previous.sighting(nativeId) !== undefined || !previous.isKnownUuid(uuid);
      if (isPlain) this.#waiting.delete(nativeId);
      // Its texts may be parts of a whole page, which they would keep: it waits as a copy.
      else this.#waiting.set(nativeId, JSON.parse(JSON.stringify(facts)) as VmFacts);
      return isPlain;
    });
  }

  /**
   * What is left at the end of a complete look: strangers who waited, and VMs that are there no more.
   *
   * In parts that do not touch each other: everybody who may be the same VM is in one part, so each may be written by itself.
   *
   * @param isOvertaken - an event told of it meanwhile: its word is newer.
   * @param atMost - VMs of one part, unless they belong together.
   */
  rest(previous: Previous, isOvertaken: (nativeId: string) => boolean, atMost: number): Part[] {
    const leaving = new Map<number, string>();
    for (const nativeId of previous.nativeIds()) {
      if (this.#present.has(nativeId) || isOvertaken(nativeId)) continue;
      const known = previous.sighting(nativeId);
      if (known !== undefined) leaving.set(known.vmId, nativeId);
    }
    const strangers = [...this.#waiting.values()].filter((facts) => !isOvertaken(facts.nativeId));
    const groups = related(strangers, (facts) =>
      facts.uuid === null
        ? []
        : previous
            .withUuid(facts.uuid)
            .map(({ vmId }) => vmId)
            .filter((vmId) => leaving.has(vmId) || !previous.shows(vmId)),
    );
    const pieces = groups.map(({ members, keys }) => ({
      vms: members,
      leaving: keys.flatMap((vmId) => leaving.get(vmId) ?? []),
    }));
    const returning = new Set(pieces.flatMap((piece) => piece.leaving));
    for (const nativeId of leaving.values())
      if (!returning.has(nativeId)) pieces.push({ vms: [], leaving: [nativeId] });
    return packed(pieces, atMost);
  }
}

interface Group<T> {
  readonly members: T[];
  readonly keys: number[];
}

/** Groups of those that share a key, directly or through others. */
export function related<T>(all: readonly T[], keysOf: (one: T) => readonly number[]): Group<T>[] {
  const groupOf = new Map<number, Group<T>>();
  const groups = new Set<Group<T>>();
  for (const one of all) {
    const keys = keysOf(one);
    const met = new Set(keys.flatMap((key) => groupOf.get(key) ?? []));
    const [first, ...others] = met;
    const group: Group<T> = first ?? { members: [], keys: [] };
    groups.add(group);
    group.members.push(one);
    group.keys.push(...keys.filter((key) => !groupOf.has(key)));
    for (const other of others) {
      group.members.push(...other.members);
      group.keys.push(...other.keys);
      groups.delete(other);
    }
    for (const key of group.keys) groupOf.set(key, group);
  }
  return [...groups].map(({ members, keys }) => ({ members, keys: [...new Set(keys)] }));
}

function packed(pieces: readonly Omit<Part, 'kind'>[], atMost: number): Part[] {
  const parts: { kind: 'part'; vms: VmFacts[]; leaving: string[] }[] = [];
  for (const { vms, leaving } of pieces) {
    const last = parts.at(-1);
    const size = vms.length + leaving.length;
    if (last !== undefined && last.vms.length + last.leaving.length + size <= atMost) {
      last.vms.push(...vms);
      last.leaving.push(...leaving);
    } else parts.push({ kind: 'part', vms: [...vms], leaving: [...leaving] });
  }
  return parts;
}
