/**
 * The rows of the search index. They are half of what a new VM costs, so a look at many leaves them for later: VMs with an id above a
 * mark have none yet, and a search reads those itself.
 *
 * VMs that are gone stand behind all that are there, so that nobody who looks for what is there reads
 * past them: an estate that makes and deletes VMs all day has far more of those.
 */
import type { Database } from '#store';
import type { VmFacts } from '../facts.ts';
import { searchColumns } from './vm-row.ts';

/**
 * Added to the id of a VM that is gone: 2^40, more VMs than anybody will see. Earlier berths left them at their own id; they are
 * found there as well, and read past.
 */
export const GONE_ROWS = 2 ** 40;

interface IndexedVm {
  readonly facts: string;
  readonly host_name: string;
}

interface DueVm extends IndexedVm {
  readonly id: number;
  readonly gone_ms: number | null;
}

/** The largest id of a VM that has its row. */
export function indexedUpTo(database: Database): number {
  return database.get<{ upto: number }>('SELECT upto FROM search_mark')?.upto ?? 0;
}

/** How many ids lie above the mark: as many VMs at most have no row yet. */
export function dueAtMost(database: Database): number {
  const last = database.get<{ id: number | null }>('SELECT MAX(id) AS id FROM vm')?.id ?? 0;
  return last - indexedUpTo(database);
}

/** Gives those who have none their row, by id. @returns how many */
export function indexDue(database: Database, atMost: number): number {
  const due = database.all<DueVm>(
    'SELECT id, facts, host_name, gone_ms FROM vm WHERE id > ? ORDER BY id LIMIT ?',
    indexedUpTo(database),
    atMost,
  );
  for (const { id, facts, host_name, gone_ms } of due)
    indexVm(database, gone_ms === null ? id : GONE_ROWS + id, searchColumns(JSON.parse(facts) as VmFacts, host_name));
  const last = due.at(-1);
  if (last !== undefined) database.run('UPDATE search_mark SET upto = ?', last.id);
  return due.length;
}

export function indexVm(database: Database, row: number, columns: ReturnType<typeof searchColumns>): void {
  database.run(
    'INSERT INTO vm_search (rowid, name, ids, addresses, tags, place) VALUES (?, ?, ?, ?, ?, ?)',
    row,
    ...columns,
  );
}

/**
 * These VMs are gone now. In the order of the index, and what is taken out before what is put in: FTS5 ends a segment whenever a row
 * comes before the last one (0.04 ms a VM instead of 0.25).
 */
export function retireVms(database: Database, ids: readonly number[]): void {
  const moving = ids.toSorted((a, b) => a - b).filter((id) => isTakenOut(database, id));
  for (const id of moving) {
    // The index keeps no text: it is made anew from what is known of the VM.
    const vm = database.get<IndexedVm>('SELECT facts, host_name FROM vm WHERE id = ?', id);
    if (vm === undefined) continue;
    indexVm(database, GONE_ROWS + id, searchColumns(JSON.parse(vm.facts) as VmFacts, vm.host_name));
  }
}

/**
 * VMs that were gone and of which a source shows something again leave the place of those that are gone.
 *
 * @returns those that stand nowhere now.
 */
export function reviveVms(database: Database, ids: readonly number[]): ReadonlySet<number> {
  const back = ids.filter((id) => database.get(RETURNING, id) !== undefined).sort((a, b) => a - b);
  return new Set(back.filter((id) => isTakenOut(database, GONE_ROWS + id)));
}

const RETURNING = `SELECT 1 FROM vm WHERE id = ? AND gone_ms IS NOT NULL
  AND EXISTS (SELECT 1 FROM sighting WHERE sighting.vm_id = vm.id AND sighting.gone_ms IS NULL)`;

function isTakenOut(database: Database, row: number): boolean {
  return database.run('DELETE FROM vm_search WHERE rowid = ?', row).changes > 0;
}
