/** Sources as they are stored. What they say in secret is sealed before it comes here. */
import { BerthError } from '#base';
import type { Database } from '#store';
import type { Fingerprint } from '../driver.ts';

export interface SourceProblem {
  readonly kind: string;
  readonly code: string;
  readonly message: string;
  readonly hint?: string | undefined;
}

export interface Source {
  readonly id: number;
  readonly name: string;
  readonly url: string;
  readonly driver: string;
  readonly pin: string | null;
  readonly allowPower: boolean;
  readonly everyMs: number;
  /** How often counters are read. */
  readonly sampleEveryMs: number;
  /** When they last were. */
  readonly sampledMs: number | null;
  readonly addedMs: number;
  readonly state: 'new' | 'up' | 'down';
  /** Since when it is in that state. */
  readonly sinceMs: number;
  /** The last complete look. */
  readonly okMs: number | null;
  /** When it began. */
  readonly lookBeganMs: number | null;
  /** When what the hypervisor remembers from before was written down; null: not yet, or there is nothing. */
  readonly toldMs: number | null;
  readonly problem: SourceProblem | null;
  readonly fingerprint: Fingerprint | null;
  readonly hasSecret: boolean;
}

export interface NewSource {
  readonly name: string;
  readonly url: string;
  readonly driver: string;
  readonly sealedSecret: Uint8Array | null;
  readonly pin: string | null;
  readonly allowPower: boolean;
  readonly everyMs: number;
  readonly sampleEveryMs: number;
}

interface Row {
  readonly id: number;
  readonly name: string;
  readonly url: string;
  readonly driver: string;
  readonly pin: string | null;
  readonly allow_power: number;
  readonly every_ms: number;
  readonly sample_every_ms: number;
  readonly sampled_ms: number | null;
  readonly added_ms: number;
  readonly state: Source['state'];
  readonly since_ms: number;
  readonly ok_ms: number | null;
  readonly look_began_ms: number | null;
  readonly told_ms: number | null;
  readonly problem: string | null;
  readonly fingerprint: string | null;
  readonly has_secret: number;
}

const COLUMNS = `id, name, url, driver, pin, allow_power, every_ms, sample_every_ms, sampled_ms, added_ms, state, since_ms, ok_ms,
  look_began_ms, told_ms, problem, fingerprint, secret IS NOT NULL AS has_secret`;

export class SourceTable {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** @throws source.exists (conflict) */
  add(source: NewSource, nowMs: number): Source {
    if (this.#byName(source.name) !== undefined) {
      throw new BerthError('conflict', 'source.exists', `there is already a source named ${source.name}`, {
        hint: `choose another name, or "berth source rm ${source.name}" first`,
      });
    }
    const { lastId } = this.#database.run(
      `INSERT INTO source (name, url, driver, secret, pin, allow_power, every_ms, sample_every_ms, added_ms, state, since_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'new', ?)`,
      source.name,
      source.url,
      source.driver,
      source.sealedSecret,
      source.pin,
      source.allowPower ? 1 : 0,
      source.everyMs,
      source.sampleEveryMs,
      nowMs,
      nowMs,
    );
    return this.get(lastId);
  }

  list(): Source[] {
    return this.#database
      .all<Row>(`SELECT ${COLUMNS} FROM source WHERE removed_ms IS NULL ORDER BY name`)
      .map(sourceOf);
  }

  /** @throws source.not_found */
  named(name: string): Source {
    const row = this.#byName(name);
    if (row === undefined) {
      const known = this.list().map((source) => source.name);
      throw new BerthError('not_found', 'source.not_found', `there is no source named ${name}`, {
        hint: known.length === 0 ? 'add one with "berth source add NAME URL"' : `there are: ${known.join(', ')}`,
      });
    }
    return sourceOf(row);
  }

  get(id: number): Source {
    const row = this.#database.get<Row>(`SELECT ${COLUMNS} FROM source WHERE id = ?`, id);
    if (row === undefined) throw new BerthError('not_found', 'source.not_found', `there is no source ${id}`);
    return sourceOf(row);
  }

  sealedSecret(id: number): Uint8Array | undefined {
    return (
      this.#database.get<{ secret: Uint8Array | null }>('SELECT secret FROM source WHERE id = ?', id)?.secret ??
      undefined
    );
  }

  /** The tags VMs were last seen with there; undefined when none is known there. */
  lastTags(id: number): ((nativeId: string) => readonly string[] | undefined) | undefined {
    const known = 'FROM sighting WHERE source_id = ? AND gone_ms IS NULL';
    if (this.#database.get(`SELECT 1 ${known} LIMIT 1`, id) === undefined) return undefined;
    return (nativeId) => {
      const sql = `SELECT facts ->> '$.tags' AS tags ${known} AND native_id = ?`;
      const row = this.#database.get<{ tags: string }>(sql, id, nativeId);
      return row === undefined ? undefined : (JSON.parse(row.tags) as string[]);
    };
  }

  setPace(id: number, { everyMs, sampleEveryMs }: { readonly everyMs: number; readonly sampleEveryMs: number }): void {
    this.#database.run('UPDATE source SET every_ms = ?, sample_every_ms = ? WHERE id = ?', everyMs, sampleEveryMs, id);
  }

  setFingerprint(id: number, fingerprint: Fingerprint): void {
    this.#database.run('UPDATE source SET fingerprint = ? WHERE id = ?', JSON.stringify(fingerprint), id);
  }

  #byName(name: string): Row | undefined {
    return this.#database.get<Row>(`SELECT ${COLUMNS} FROM source WHERE name = ? AND removed_ms IS NULL`, name);
  }
}

function sourceOf(row: Row): Source {
  return {
    id: row.id,
    name: row.name,
    url: row.url,
    driver: row.driver,
    pin: row.pin,
    allowPower: row.allow_power === 1,
    everyMs: row.every_ms,
    sampleEveryMs: row.sample_every_ms,
    sampledMs: row.sampled_ms,
    addedMs: row.added_ms,
    state: row.state,
    sinceMs: row.since_ms,
    okMs: row.ok_ms,
    lookBeganMs: row.look_began_ms,
    toldMs: row.told_ms,
    problem: row.problem === null ? null : (JSON.parse(row.problem) as SourceProblem),
    fingerprint: row.fingerprint === null ? null : (JSON.parse(row.fingerprint) as Fingerprint),
    hasSecret: row.has_secret === 1,
  };
}
