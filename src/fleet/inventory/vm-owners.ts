/**
 * Owners and projects in the rows of VMs, where lists filter and sort by them. A row is decided when it is written; when other
 * rules come into force, or one of them begins or ends, all rows are decided again, some milliseconds at a time.
 *
 *     swept to the end ─(another epoch)─▶ step … step ─▶ swept to the end
 *
 * How far it is stands beside the rows and changes with them: killed anywhere, it goes on.
 */
import { monotonicMs } from '#platform';
import type { Database } from '#store';
import type { VmFacts } from '../facts.ts';
import { type Owned, type OwnerBook, subjectOf, TAGS_ONLY, toldBy } from './owner-rules.ts';

/** Rows read at once, and how long one step may take: the daemon answers in between. */
const STEP_VMS = 50;
const STEP_MS = 10;

interface Row {
  readonly id: number;
  readonly name: string;
  readonly source: string;
  readonly host_name: string;
  readonly owner: string;
  readonly project: string | null;
  readonly tags: string;
}

export class VmOwners {
  readonly #database: Database;
  readonly #book: OwnerBook;
  readonly #sourceNames = new Map<number, string>();

  constructor(database: Database, book: OwnerBook) {
    this.#database = database;
    this.#book = book;
  }

  /** Whose a VM is that a source shows now. */
  of(
    facts: VmFacts,
    place: { readonly sourceId: number; readonly hostName: string | null; readonly atMs: number },
  ): Owned {
    const { rules } = this.#book;
    if (rules === TAGS_ONLY) return toldBy(facts.tags);
    const source = this.#sourceName(place.sourceId);
    return rules.at(subjectOf(facts, { source, host: place.hostName ?? '' }), place.atMs);
  }

  /** @returns whether all rows are as the rules say at that time. One step at least is made when they are not. */
  step(nowMs: number): boolean {
    return this.#database.transaction(() => {
      const epoch = this.#book.epochAt(nowMs);
      const swept = this.#database.get<{ epoch: string; done_to: number | null }>(
        'SELECT epoch, done_to FROM owner_sweep',
      );
      if (swept?.epoch === epoch && swept.done_to === null) return true;
      let doneTo = swept?.epoch === epoch ? swept.done_to : 0;
      const until = monotonicMs() + STEP_MS;
      do doneTo = this.#some(doneTo ?? 0, nowMs);
      while (doneTo !== null && monotonicMs() < until);
      this.#database.run(
        'INSERT INTO owner_sweep (id, epoch, done_to) VALUES (1, ?1, ?2) ON CONFLICT DO UPDATE SET epoch = ?1, done_to = ?2',
        epoch,
        doneTo,
      );
      return doneTo === null;
    });
  }

  /** @returns the last VM that was decided, null when none is left. */
  #some(after: number, nowMs: number): number | null {
    const rows = this.#database.all<Row>(
      `SELECT vm.id, vm.name, source.name AS source, vm.host_name, vm.owner, vm.project, vm.facts ->> '$.tags' AS tags
       FROM vm CROSS JOIN source ON source.id = vm.source_id WHERE vm.id > ? ORDER BY vm.id LIMIT ?`,
      after,
      STEP_VMS,
    );
    for (const row of rows) {
      const facts = { name: row.name, tags: JSON.parse(row.tags) as string[] };
      const { owner, project } = this.#book.rules.at(
        subjectOf(facts, { source: row.source, host: row.host_name }),
        nowMs,
      );
      if ((owner ?? '') !== row.owner || project !== row.project)
        this.#database.run('UPDATE vm SET owner = ?, project = ? WHERE id = ?', owner ?? '', project, row.id);
    }
    return rows.length < STEP_VMS ? null : (rows.at(-1)?.id ?? null);
  }

  /** Names of sources never change. */
  #sourceName(id: number): string {
    const known = this.#sourceNames.get(id);
    if (known !== undefined) return known;
    const name = this.#database.get<{ name: string }>('SELECT name FROM source WHERE id = ?', id)?.name ?? '';
    this.#sourceNames.set(id, name);
    return name;
  }
}
