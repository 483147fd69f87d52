/** Questions to the inventory: lists that page by what they are sorted by, search, and the estate at an earlier time. */
import * as v from 'valibot';
import { BerthError } from '#base';
import type { Database, SqlValue } from '#store';
import type { HypervisorHost, VmFacts } from '../facts.ts';
import { type Cursor, decodeCursor, encodeCursor } from './cursor.ts';
import { VmSearch } from './search.ts';

export const SORT_KEYS = ['name', 'state', 'host', 'owner', 'vcpus', 'memory', 'disk', 'changed'] as const;
export type SortKey = (typeof SORT_KEYS)[number];

/** How a list is sorted, always by the id last, and where in it a page ended. */
interface Order {
  readonly columns: readonly [string, ...string[]];
  readonly cursorOf: (row: VmRow) => string;
  readonly valuesOf: (cursor: Cursor) => readonly (string | number)[];
}

function byColumn(column: string): Order {
  return {
    columns: [`vm.${column}`],
    cursorOf: (row) => encodeCursor({ value: row.sort_value, id: row.id }),
    valuesOf: ({ value, id }) => [value, id],
  };
}

/** By a text and then by name, as the indexes have them that serve lists of one owner's, host's or state's VMs too. */
function byColumnAndName(column: 'power_state' | 'host_name' | 'owner'): Order {
  return {
    columns: [`vm.${column}`, 'vm.name'],
    cursorOf: (row) => encodeCursor({ value: JSON.stringify([row.sort_value, row.name]), id: row.id }),
    valuesOf: ({ value, id }) => [...placeOf(String(value)), id],
  };
}

const ORDERS: Readonly<Record<SortKey, Order>> = {
  name: byColumn('name'),
  state: byColumnAndName('power_state'),
  host: byColumnAndName('host_name'),
  owner: byColumnAndName('owner'),
  vcpus: byColumn('vcpus'),
  memory: byColumn('memory_bytes'),
  disk: byColumn('disk_bytes'),
  changed: byColumn('changed_ms'),
};

const PlaceSchema = v.pipe(v.string(), v.parseJson(), v.tuple([v.string(), v.string()]));

/** @throws fleet.cursor (invalid) */
function placeOf(text: string): readonly [string, string] {
  const parsed = v.safeParse(PlaceSchema, text);
  if (parsed.success) return parsed.output;
  throw new BerthError('invalid', 'fleet.cursor', 'that is no place in a list that is sorted like this', {
    hint: 'give what "next" said, to the same list with the same order',
  });
}

export const FILTER_NAMES = [
  'source',
  'state',
  'host',
  'tag',
  'name',
  'uuid',
  'owner',
  'project',
  'os',
  'mode',
  'accelerator',
  'stale',
] as const;
export type FilterName = (typeof FILTER_NAMES)[number];

/** All names must hold; of several values of one name one must. */
export type Filters = ReadonlyMap<FilterName, readonly string[]>;

export interface ListQuery {
  readonly filters?: Filters;
  readonly sort?: SortKey;
  readonly isDescending?: boolean;
  readonly limit: number;
  /** `next` of the page before. */
  readonly after?: string | undefined;
  /** VMs that are gone as well. */
  readonly withGone?: boolean;
}

export interface VmListing {
  /** `v12`: berth's own id. */
  readonly id: string;
  readonly name: string;
  readonly uuid: string | null;
  readonly source: string;
  /** Its source does not answer: the facts are the last ones known. */
  readonly isStale: boolean;
  readonly host: string | null;
  /** As the rules in force say, else its tags. */
  readonly owner: string | null;
  readonly project: string | null;
  readonly facts: VmFacts;
  readonly firstSeenMs: number;
  readonly changedMs: number;
  readonly goneMs: number | null;
}

export interface Page<T> {
  readonly items: readonly T[];
  /** For `after`; null on the last page. */
  readonly next: string | null;
}

interface VmRow {
  readonly id: number;
  readonly name: string;
  readonly uuid: string | null;
  readonly source: string;
  readonly state: string;
  readonly host_name: string;
  readonly owner: string;
  readonly project: string | null;
  readonly facts: string;
  readonly first_ms: number;
  readonly changed_ms: number;
  readonly gone_ms: number | null;
  readonly sort_value: string | number;
}

const SELECT_VM = `SELECT vm.id, vm.name, vm.uuid, source.name AS source, source.state, vm.host_name, vm.owner, vm.project, vm.facts,
  vm.first_ms, vm.changed_ms, vm.gone_ms`;

export class FleetQueries {
  readonly #database: Database;
  readonly #search: VmSearch<VmRow>;

  constructor(database: Database) {
    this.#database = database;
    this.#search = new VmSearch(database, `${SELECT_VM}, vm.id AS sort_value`);
  }

  list(query: ListQuery): Page<VmListing> {
    const { columns, cursorOf, valuesOf } = ORDERS[query.sort ?? 'name'];
    const direction = query.isDescending === true ? 'DESC' : 'ASC';
    const { sql, values } = whereOf(query.filters ?? new Map(), (name, word) =>
      name === 'tag' ? this.#isCommonTag(word) : name === 'source' && this.#isLargeSource(word),
    );
    const conditions = query.withGone === true ? [...sql] : ['vm.gone_ms IS NULL', ...sql];
    if (query.after !== undefined) {
      const place = valuesOf(decodeCursor(query.after));
      const marks = place.map(() => '?').join(', ');
      conditions.push(`(${columns.join(', ')}, vm.id) ${direction === 'ASC' ? '>' : '<'} (${marks})`);
      values.push(...place);
    }
    const rows = this.#database.all<VmRow>(
      `${SELECT_VM}, ${columns[0]} AS sort_value FROM vm CROSS JOIN source ON source.id = vm.source_id
       ${conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')}`}
       ORDER BY ${[...columns, 'vm.id'].map((column) => `${column} ${direction}`).join(', ')} LIMIT ?`,
      ...values,
      query.limit + 1,
    );
    return pageOf(rows, query.limit, cursorOf);
  }

  #isCommonTag(tag: string): boolean {
    const found = this.#database.get<{ n: number }>(
      `SELECT count(*) AS n FROM (SELECT 1 FROM tag WHERE tag = ? UNION ALL SELECT 1 FROM tag WHERE tag > ? || '=' AND tag < ? || '>' LIMIT ?)`,
      tag,
      tag,
      tag,
      FEW,
    );
    return (found?.n ?? 0) >= FEW;
  }

  #isLargeSource(source: string): boolean {
    const found = this.#database.get<{ n: number }>(
      `SELECT count(*) AS n FROM (SELECT 1 FROM source o CROSS JOIN sighting s ON s.source_id = o.id AND s.gone_ms IS NULL
       WHERE o.name = ? LIMIT ?)`,
      source,
      FEW,
    );
    return (found?.n ?? 0) >= FEW;
  }

  /** VMs in whose name, ids, addresses, tags, host, guest or network the text stands. Not sorted. */
  search(text: string, query: Pick<ListQuery, 'limit' | 'after' | 'withGone'>): Page<VmListing> {
    const there = query.withGone === true ? '' : 'AND vm.gone_ms IS NULL';
    // Fewer than three characters make no trigram.
    if ([...text].length < 3) return this.#beginningWith(text, query, there);
    const rows = this.#search.rows({
      text,
      withGone: query.withGone === true,
      afterId: query.after === undefined ? 0 : decodeCursor(query.after).id,
      limit: query.limit + 1,
    });
    return pageOf(rows, query.limit, (row) => encodeCursor({ value: '', id: row.id }));
  }

  /** Names that begin with a text, in the order of names: an index has them so, however many there are. */
  #beginningWith(text: string, query: Pick<ListQuery, 'limit' | 'after'>, there: string): Page<VmListing> {
    const after = query.after === undefined ? { value: text, id: 0 } : decodeCursor(query.after);
    const rows = this.#database.all<VmRow>(
      `${SELECT_VM}, vm.name AS sort_value FROM vm CROSS JOIN source ON source.id = vm.source_id
       WHERE (vm.name, vm.id) > (?, ?) AND vm.name < ? || char(0x10ffff) ${there} ORDER BY vm.name, vm.id LIMIT ?`,
      after.value,
      after.id,
      text,
      query.limit + 1,
    );
    return pageOf(rows, query.limit, (row) => encodeCursor({ value: row.sort_value, id: row.id }));
  }

  /** By `v12`, name, UUID or a source's own id. @throws vm.not_found, vm.ambiguous (conflict) */
  find(reference: string): VmListing {
    const byId = /^v([0-9]{1,15})$/.exec(reference)?.[1];
    const select = `${SELECT_VM}, 0 AS sort_value FROM vm JOIN source ON source.id = vm.source_id`;
    const tries: readonly (readonly [string, SqlValue])[] = [
      ...(byId === undefined ? [] : [['vm.id = ?', Number(byId)] as const]),
      ['vm.name = ? AND vm.gone_ms IS NULL', reference],
      ['vm.id IN (SELECT vm_id FROM sighting WHERE uuid = ?)', reference.toLowerCase()],
      ['vm.id IN (SELECT vm_id FROM sighting WHERE native_id = ? AND gone_ms IS NULL)', reference],
      ['vm.name = ?', reference],
    ];
    for (const [condition, value] of tries) {
      const rows = this.#database.all<VmRow>(
        `${select} WHERE ${condition} ORDER BY vm.gone_ms IS NOT NULL, vm.id DESC LIMIT 20`,
        value,
      );
      const there = rows.filter((row) => row.gone_ms === null);
      const [first, second] = there.length > 0 ? there : rows;
      if (first === undefined) continue;
      if (second === undefined) return listingOf(first);
      const ids = (there.length > 0 ? there : rows).map((row) => `v${row.id} (${row.source})`).join(', ');
      throw new BerthError('conflict', 'vm.ambiguous', `${reference} is several VMs: ${ids}`, {
        hint: 'name it by its id',
      });
    }
    throw new BerthError('not_found', 'vm.not_found', `there is no VM ${reference} in the inventory`, {
      hint: 'berth fleet search TEXT finds by part of a name, address or tag',
    });
  }

  /** A VM by what one source calls it. */
  byNativeId(
    sourceId: number,
    nativeId: string,
  ): { vm: string; name: string; source: string; host: string | null } | undefined {
    const row = this.#database.get<{ id: number; name: string; source: string; host_name: string }>(
      `SELECT vm.id, vm.name, source.name AS source, vm.host_name FROM sighting s JOIN vm ON vm.id = s.vm_id
       JOIN source ON source.id = s.source_id WHERE s.source_id = ? AND s.native_id = ? AND s.gone_ms IS NULL`,
      sourceId,
      nativeId,
    );
    if (row === undefined) return undefined;
    return { vm: `v${row.id}`, name: row.name, source: row.source, host: row.host_name === '' ? null : row.host_name };
  }

  hosts(): readonly HostListing[] {
    const rows = this.#database.all<{
      source: string;
      state: string;
      source_id: number;
      native_id: string;
      facts: string;
      last_ms: number;
      vms: number;
      also: string;
    }>(
      `SELECT source.name AS source, source.state, host.source_id, host.native_id, host.facts, host.last_ms,
       (SELECT COUNT(*) FROM sighting s WHERE s.source_id = host.source_id AND s.gone_ms IS NULL AND s.facts ->> 'hostId' = host.native_id) AS vms,
       (SELECT json_group_array(json_object('source', os.name, 'host', other.name) ORDER BY os.name, other.name)
        FROM host_span own JOIN host_span other ON other.machine = own.machine AND other.closed_ms IS NULL AND other.id <> own.id
        JOIN source os ON os.id = other.source_id
        WHERE own.source_id = host.source_id AND own.native_id = host.native_id AND own.closed_ms IS NULL) AS also
       FROM host JOIN source ON source.id = host.source_id WHERE host.gone_ms IS NULL ORDER BY source.name, host.name`,
    );
    return rows.map((row) => ({
      source: row.source,
      isStale: row.state === 'down',
      facts: JSON.parse(row.facts) as HypervisorHost,
      vms: row.vms,
      also: JSON.parse(row.also) as HostListing['also'],
      lastSeenMs: row.last_ms,
    }));
  }

  /** How many VMs there are of each source and power state. */
  counts(): readonly { readonly source: string; readonly state: string; readonly vms: number }[] {
    return this.#database.all(
      `SELECT source.name AS source, vm.power_state AS state, COUNT(*) AS vms FROM vm JOIN source ON source.id = vm.source_id
       WHERE vm.gone_ms IS NULL GROUP BY source.name, vm.power_state ORDER BY 1, 2`,
    );
  }

  /** Out of an index, as the next one: a million VMs in some tens of milliseconds. */
  vmsBySource(): readonly { readonly source: string; readonly vms: number }[] {
    return this.#database.all(
      `SELECT source.name AS source, (SELECT COUNT(*) FROM sighting WHERE source_id = source.id AND gone_ms IS NULL) AS vms
       FROM source WHERE source.removed_ms IS NULL ORDER BY source.name`,
    );
  }

  vmsByState(): readonly { readonly state: string; readonly vms: number }[] {
    return this.#database.all(
      'SELECT power_state AS state, COUNT(*) AS vms FROM vm WHERE gone_ms IS NULL GROUP BY power_state ORDER BY 1',
    );
  }

  sightings(vmId: number): readonly SightingListing[] {
    const rows = this.#database.all<{
      source: string;
      state: string;
      native_id: string;
      facts: string;
      first_ms: number;
      changed_ms: number;
      gone_ms: number | null;
    }>(
      `SELECT source.name AS source, source.state, s.native_id, s.facts, s.first_ms, s.changed_ms, s.gone_ms
       FROM sighting s JOIN source ON source.id = s.source_id WHERE s.vm_id = ? ORDER BY s.id`,
      vmId,
    );
    return rows.map((row) => ({
      source: row.source,
      isStale: row.state === 'down',
      nativeId: row.native_id,
      facts: JSON.parse(row.facts) as VmFacts,
      firstSeenMs: row.first_ms,
      changedMs: row.changed_ms,
      goneMs: row.gone_ms,
    }));
  }
}

export interface HostListing {
  readonly source: string;
  readonly isStale: boolean;
  readonly facts: HypervisorHost;
  readonly vms: number;
  /** What other sources call the same machine. */
  readonly also: readonly { readonly source: string; readonly host: string }[];
  readonly lastSeenMs: number;
}

export interface SightingListing {
  readonly source: string;
  readonly isStale: boolean;
  readonly nativeId: string;
  readonly facts: VmFacts;
  readonly firstSeenMs: number;
  readonly changedMs: number;
  readonly goneMs: number | null;
}

/** `v12` → 12. */
export function vmNumber(id: string): number {
  return Number(id.slice(1));
}

function listingOf(row: VmRow): VmListing {
  return {
    id: `v${row.id}`,
    name: row.name,
    uuid: row.uuid,
    source: row.source,
    isStale: row.state === 'down',
    host: row.host_name === '' ? null : row.host_name,
    owner: row.owner === '' ? null : row.owner,
    project: row.project,
    facts: JSON.parse(row.facts) as VmFacts,
    firstSeenMs: row.first_ms,
    changedMs: row.changed_ms,
    goneMs: row.gone_ms,
  };
}

function pageOf(rows: readonly VmRow[], limit: number, cursorOf: (row: VmRow) => string): Page<VmListing> {
  const kept = rows.slice(0, limit);
  const last = kept.at(-1);
  return { items: kept.map(listingOf), next: rows.length > limit && last !== undefined ? cursorOf(last) : null };
}

/** Every condition takes exactly one value for each word it is given. */
const CONDITION_OF: Readonly<Record<FilterName, string>> = {
  source: `vm.id IN (SELECT s.vm_id FROM source o CROSS JOIN sighting s ON s.source_id = o.id AND s.gone_ms IS NULL WHERE o.name = ?)`,
  state: 'vm.power_state = ?',
  host: 'vm.host_name = ?',
  tag: `vm.id IN (SELECT vm_id FROM tag WHERE tag = ? UNION ALL SELECT vm_id FROM tag WHERE tag > ? || '=' AND tag < ? || '>')`,
  name: 'vm.name GLOB ?',
  uuid: 'vm.uuid = lower(?)',
  owner: 'vm.owner = ?',
  project: 'vm.project = ?',
  os: "vm.facts ->> 'guestOs' = ?",
  mode: "vm.facts ->> '$.virtualization.mode' = ?",
  accelerator: "vm.facts ->> '$.virtualization.accelerator' = ?",
  stale: "(source.state = 'down') = (? IN ('true', '1', 'yes'))",
};

/**
 * For a tag or a source that many VMs have: each VM is asked in the order of the list, until the page is full. The other form has
 * the ids of all of them first, and is quick when they are few.
 */
const COMMON: Partial<Readonly<Record<FilterName, string>>> = {
  tag: `EXISTS (SELECT 1 FROM tag WHERE tag.vm_id = vm.id AND (tag = ? OR (tag > ? || '=' AND tag < ? || '>')))`,
  source: `EXISTS (SELECT 1 FROM sighting s JOIN source o ON o.id = s.source_id
    WHERE s.vm_id = vm.id AND s.gone_ms IS NULL AND o.name = ?)`,
};
const FEW = 2_000;

function whereOf(
  filters: Filters,
  isCommon: (name: FilterName, word: string) => boolean,
): { sql: string[]; values: SqlValue[] } {
  const sql: string[] = [];
  const values: SqlValue[] = [];
  for (const [name, words] of filters) {
    const conditions = words.map((word) => (isCommon(name, word) ? COMMON[name] : undefined) ?? CONDITION_OF[name]);
    sql.push(`(${conditions.join(' OR ')})`);
    for (const [index, word] of words.entries())
      values.push(...Array.from(conditions[index]?.matchAll(/\?/g) ?? [], () => word));
  }
  return { sql, values };
}
