/** Hosts as a source describes them. */
import type { Database } from '#store';
import type { HypervisorHost } from '../facts.ts';

export class HostTable {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  take(sourceId: number, hosts: readonly HypervisorHost[], atMs: number): void {
    for (const host of hosts) {
      this.#database.run(
        `INSERT INTO host (source_id, native_id, key, name, facts, first_ms, last_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
         ON CONFLICT DO UPDATE SET key = ?3, name = ?4, facts = ?5, last_ms = ?6, gone_ms = NULL`,
        sourceId,
        host.nativeId,
        host.uuid ?? host.name.toLowerCase(),
        host.name,
        JSON.stringify(host),
        atMs,
      );
    }
  }

  /** A complete look showed these and no others. */
  keepOnly(sourceId: number, present: ReadonlySet<string>, atMs: number): void {
    const known = this.#database.all<{ native_id: string }>(
      'SELECT native_id FROM host WHERE source_id = ? AND gone_ms IS NULL',
      sourceId,
    );
    for (const { native_id } of known) {
      if (!present.has(native_id))
        this.#database.run(
          'UPDATE host SET gone_ms = ? WHERE source_id = ? AND native_id = ?',
          atMs,
          sourceId,
          native_id,
        );
    }
  }

  allGone(sourceId: number, atMs: number): void {
    this.#database.run('UPDATE host SET gone_ms = ? WHERE source_id = ? AND gone_ms IS NULL', atMs, sourceId);
  }
}
