/** Hosts as a source describes them, and as they were. */
import type { Database } from '#store';
import type { HypervisorHost } from '../facts.ts';
import { comparableUuid, type KnownHost, machineOf } from './machine.ts';

interface SpanRow {
  readonly id: number;
  readonly machine: number;
  readonly name: string;
  readonly uuid: string | null;
  readonly threads: number | null;
  readonly memory_bytes: number | null;
  readonly closed_ms: number | null;
}

type Shape = Omit<SpanRow, 'id' | 'closed_ms'>;

export class HostTable {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** What a VM's place is compared by, its key, stays what it was when the host was first seen: another one would move every VM. */
  take(sourceId: number, hosts: readonly HypervisorHost[], atMs: number): void {
    for (const host of hosts) {
      this.#database.run(
        `INSERT INTO host (source_id, native_id, key, name, facts, first_ms, last_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
         ON CONFLICT DO UPDATE SET name = ?4, facts = ?5, last_ms = ?6, gone_ms = NULL`,
        sourceId,
        host.nativeId,
        host.uuid ?? host.name.toLowerCase(),
        host.name,
        JSON.stringify(host),
        atMs,
      );
      this.#settle(sourceId, host, atMs);
    }
  }

  /** A complete look showed these and no others. */
  keepOnly(sourceId: number, present: ReadonlySet<string>, atMs: number): void {
    const known = this.#database.all<{ native_id: string }>(
      'SELECT native_id FROM host WHERE source_id = ? AND gone_ms IS NULL',
      sourceId,
    );
    for (const { native_id } of known) {
      if (present.has(native_id)) continue;
      this.#database.run(
        'UPDATE host SET gone_ms = ? WHERE source_id = ? AND native_id = ?',
        atMs,
        sourceId,
        native_id,
      );
      this.#database.run(
        'UPDATE host_span SET closed_ms = MAX(opened_ms, ?) WHERE source_id = ? AND native_id = ? AND closed_ms IS NULL',
        atMs,
        sourceId,
        native_id,
      );
    }
  }

  allGone(sourceId: number, atMs: number): void {
    this.#database.run('UPDATE host SET gone_ms = ? WHERE source_id = ? AND gone_ms IS NULL', atMs, sourceId);
    this.#database.run(
      'UPDATE host_span SET closed_ms = MAX(opened_ms, ?) WHERE source_id = ? AND closed_ms IS NULL',
      atMs,
      sourceId,
    );
  }

  /** Brings the host's open span in line with what is told of it now. */
  #settle(sourceId: number, host: HypervisorHost, atMs: number): void {
    const last = this.#database.get<SpanRow>(
      `SELECT id, machine, name, uuid, threads, memory_bytes, closed_ms FROM host_span
       WHERE source_id = ? AND native_id = ? ORDER BY opened_ms DESC, id DESC LIMIT 1`,
      sourceId,
      host.nativeId,
    );
    const next = this.#shape(sourceId, host, last);
    const isOpen = last !== undefined && last.closed_ms === null;
    if (isOpen && isSame(last, next)) {
      // Learned meanwhile, and no other machine by it.
      if (last.uuid !== next.uuid) this.#database.run('UPDATE host_span SET uuid = ? WHERE id = ?', next.uuid, last.id);
      return;
    }
    if (isOpen) this.#database.run('UPDATE host_span SET closed_ms = MAX(opened_ms, ?) WHERE id = ?', atMs, last.id);
    this.#database.run(
      `INSERT INTO host_span (source_id, native_id, machine, name, uuid, threads, memory_bytes, opened_ms)
       SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, MAX(?8, COALESCE(
         (SELECT MAX(closed_ms) FROM host_span WHERE source_id = ?1 AND native_id = ?2), ?8))`,
      sourceId,
      host.nativeId,
      next.machine,
      next.name,
      next.uuid,
      next.threads,
      next.memory_bytes,
      atMs,
    );
  }

  /** A source that does not say something just now has not taken it away. */
  #shape(sourceId: number, host: HypervisorHost, last: SpanRow | undefined): Shape {
    const uuid = comparableUuid(host.uuid) ?? last?.uuid ?? null;
    const isOther = last !== undefined && last.uuid !== null && last.uuid !== uuid;
    const own = { sourceId, name: host.name, machine: isOther ? undefined : last?.machine };
    const sameUuid =
      uuid === null
        ? []
        : this.#database.all<{ source_id: number; machine: number; name: string }>(
            `SELECT source_id, machine, name FROM host_span
             WHERE closed_ms IS NULL AND uuid = ? AND NOT (source_id = ? AND native_id = ?)`,
            uuid,
            sourceId,
            host.nativeId,
          );
    const known = sameUuid.map(({ source_id, machine, name }): KnownHost => ({ sourceId: source_id, machine, name }));
    return {
      machine: machineOf(own, known) ?? this.#newMachine(),
      name: host.name,
      uuid,
      threads: host.threads ?? last?.threads ?? null,
      memory_bytes: host.memoryBytes ?? last?.memory_bytes ?? null,
    };
  }

  #newMachine(): number {
    return (
      this.#database.get<{ next: number }>('SELECT COALESCE(MAX(machine), 0) + 1 AS next FROM host_span')?.next ?? 1
    );
  }
}

function isSame(one: Shape, other: Shape): boolean {
  return (
    one.machine === other.machine &&
    one.name === other.name &&
    one.threads === other.threads &&
    one.memory_bytes === other.memory_bytes
  );
}
