/** What is found by a text: rows of the trigram index, in the order in which VMs were first seen. */
import type { Database } from '#store';
import type { VmFacts } from '../facts.ts';
import { foldedLikeIndex, isWorthSampling, ladderOf, type Sample } from './needle.ts';
import { GONE_ROWS, indexedUpTo } from './search-table.ts';
import { searchColumns } from './vm-row.ts';

/** VMs looked at to learn what is rare. What none of them has, fewer than one in 100 have, nearly always. */
const SAMPLE_VMS = 256;
/** The estate has grown so many times since a sample was taken: it is taken anew. */
const GROWN = 1.25;
/** Spreads places over a range without a rhythm of their own: names and tags often go in rounds. */
const GOLDEN = (Math.sqrt(5) - 1) / 2;

/** How work is divided between the index and reading VMs. Any figures find the same. */
export interface Effort {
  /** Entries of the index's lists for which a text is asked as it is. */
  readonly quickEntries: number;
  /** VMs read that have a piece and not the whole, before a larger piece is asked for. */
  readonly mostMissed: number;
}

/** 10 ms of entries; 5 ms of VMs, 50 from a disk. 2026-11-22, AMD EPYC. */
const EFFORT: Effort = { quickEntries: 250_000, mostMissed: 500 };

/** What a row must tell for its text to be known. */
interface SearchedRow {
  readonly id: number;
  readonly facts: string;
  readonly host_name: string;
}

export interface Wanted {
  readonly text: string;
  /** VMs that are gone as well. */
  readonly withGone: boolean;
  /** Only VMs with a larger id. */
  readonly afterId: number;
  readonly limit: number;
}

/** A part of the index: whose rows begin behind `rowOfId`. */
interface Part {
  readonly rowOfId: number;
  readonly isThere: string;
}
export const PRESENT: Part = { rowOfId: 0, isThere: 'AND vm.gone_ms IS NULL' };
/** With those who were gone before their rows were kept apart. */
const ANY: Part = { rowOfId: 0, isThere: '' };
const GONE: Part = { rowOfId: GONE_ROWS, isThere: '' };

export class VmSearch<Row extends SearchedRow> {
  readonly #database: Database;
  readonly #select: string;
  readonly #effort: Effort;
  /** Tells what is quick, never what is found: it may be old. */
  #sample: Sample = { texts: [], vms: 0 };

  /** @param select - the columns of an answer, of `vm` and `source`. */
  constructor(database: Database, select: string, effort = EFFORT) {
    this.#database = database;
    this.#select = select;
    this.#effort = effort;
  }

  /** At most `limit` rows of VMs that have the text in one of their columns, by id. */
  rows(wanted: Wanted): Row[] {
    const present = this.#rowsIn(wanted.withGone ? ANY : PRESENT, wanted);
    const gone = wanted.withGone ? this.#rowsIn(GONE, wanted) : [];
    const rows = wanted.withGone ? [...present, ...gone].sort((a, b) => a.id - b.id).slice(0, wanted.limit) : present;
    if (rows.length < wanted.limit) rows.push(...this.#rowsDue(wanted, wanted.limit - rows.length));
    return rows;
  }

  /** Of VMs that have no row in the index yet, whose ids are larger than those of all who have. */
  #rowsDue({ text, withGone, afterId }: Wanted, limit: number): Row[] {
    const rows: Row[] = [];
    const folded = foldedLikeIndex(text);
    const statement = `${this.#select} FROM vm CROSS JOIN source ON source.id = vm.source_id
      WHERE vm.id > ? ${withGone ? '' : 'AND vm.gone_ms IS NULL'} ORDER BY vm.id`;
    const due = this.#database.each<Row>(statement, Math.max(afterId, indexedUpTo(this.#database)));
    for (const row of due) {
      if (searchedText(row).includes(folded)) rows.push(row);
      if (rows.length === limit) break;
    }
    return rows;
  }

  #rowsIn(part: Part, { text, afterId, limit }: Wanted): Row[] {
    const rows: Row[] = [];
    const folded = foldedLikeIndex(text);
    const { quickEntries, mostMissed } = this.#effort;
    const asked = { wanted: limit, quickEntries };
    const ladder = isWorthSampling(text) ? ladderOf(text, this.#sampled(), asked) : [text];
    let lastId = afterId;
    for (const [step, piece] of ladder.entries()) {
      const isWhole = step === ladder.length - 1;
      let missed = 0;
      for (const row of this.#database.each<Row>(this.statement(part), phrase(piece), lastId)) {
        if (isWhole || searchedText(row).includes(folded)) rows.push(row);
        else missed += 1;
        if (rows.length === limit) return rows;
        lastId = row.id;
        if (missed > mostMissed) break;
      }
      if (missed <= mostMissed) return rows;
    }
    return rows;
  }

  /** The index has its rows by id: nothing is sorted, and the first are there before the last are looked for. */
  statement({ rowOfId, isThere }: Part): string {
    return `${this.#select} FROM vm_search CROSS JOIN vm ON vm.id = vm_search.rowid - ${rowOfId}
      CROSS JOIN source ON source.id = vm.source_id
      WHERE vm_search MATCH ? AND vm_search.rowid > ? + ${rowOfId} AND vm_search.rowid < ${rowOfId + GONE_ROWS} ${isThere}
      ORDER BY vm_search.rowid`;
  }

  #sampled(): Sample {
    const vms = this.#database.get<{ id: number | null }>('SELECT MAX(id) AS id FROM vm')?.id ?? 0;
    const { vms: before } = this.#sample;
    if (before === 0 || vms > before * GROWN) this.#sample = { vms, texts: this.#textsAmong(vms) };
    return this.#sample;
  }

  #textsAmong(vms: number): readonly string[] {
    const texts = new Map<number, string>();
    for (let n = 1; n <= SAMPLE_VMS; n += 1) {
      const row = this.#database.get<SearchedRow>(
        'SELECT id, facts, host_name FROM vm WHERE id > ? ORDER BY id LIMIT 1',
        Math.floor(((n * GOLDEN) % 1) * vms),
      );
      if (row !== undefined && !texts.has(row.id)) texts.set(row.id, searchedText(row));
    }
    return [...texts.values()];
  }
}

/** Words of FTS5's query language stand for themselves within quotes. */
function phrase(text: string): string {
  return `"${text.replaceAll('"', '""')}"`;
}

/** What the index was given for a VM; no text of one line reaches from one column into the next. */
function searchedText(row: SearchedRow): string {
  return foldedLikeIndex(searchColumns(JSON.parse(row.facts) as VmFacts, row.host_name).join('\n'));
}
