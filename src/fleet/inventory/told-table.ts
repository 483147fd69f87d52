/** Writes down what a hypervisor remembers from before berth looked: of each VM once, whole or not at all. */
import type { Database } from '#store';
import type { PastEvent } from '../driver.ts';
import type { PowerState } from '../facts.ts';
import { requireLease } from './leases.ts';
import { toldIntervals } from './told.ts';

interface FirstRow {
  readonly vm_id: number;
  readonly opened_ms: number;
  readonly power_state: PowerState;
  readonly host_id: string | null;
  readonly opened_how: string;
}

export interface Telling {
  readonly sourceId: number;
  readonly holder: string;
  readonly nowMs: number;
}

export class ToldTable {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /**
   * VMs of which something was told already, through whichever source, stay as they are: a collector that was stopped in the
   * middle goes on with the others.
   *
   * @param told - events by native id.
   * @throws fleet.lease_lost (conflict): nothing is written then.
   */
  write({ sourceId, holder, nowMs }: Telling, told: ReadonlyMap<string, readonly PastEvent[]>): void {
    this.#database.transaction(() => {
      requireLease(this.#database, sourceId, { holder, nowMs });
      for (const [nativeId, events] of told) {
        const first = this.#first(sourceId, nativeId);
        if (first === undefined || first.opened_how === 'told') continue;
        const { vm_id: vmId, opened_ms: atMs, power_state: powerState, host_id: hostId } = first;
        for (const one of toldIntervals(events, { atMs, powerState, hostId })) {
          const host = this.#host(sourceId, one.hostId);
          this.#database.run(
            `INSERT INTO interval (vm_id, source_id, host_key, host_name, power_state, causes, moved_from,
             opened_ms, opened_observed_ms, opened_not_before_ms, opened_how,
             closed_ms, closed_observed_ms, closed_not_before_ms, closed_how)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?10, ?8, 'told', ?9, ?10, ?9, 'told')`,
            vmId,
            sourceId,
            host.key,
            host.name,
            one.powerState,
            one.causes.join(','),
            one.movedFrom === null ? null : this.#host(sourceId, one.movedFrom).name,
            one.openedMs,
            one.closedMs,
            nowMs,
          );
        }
      }
    });
  }

  /** All there is was written: it is not asked for again. */
  finish({ sourceId, holder, nowMs }: Telling): void {
    this.#database.transaction(() => {
      requireLease(this.#database, sourceId, { holder, nowMs });
      this.#database.run('UPDATE source SET told_ms = ? WHERE id = ?', nowMs, sourceId);
    });
  }

  /** The first interval of the VM that this source knows by that id, and the source's id of its host. */
  #first(sourceId: number, nativeId: string): FirstRow | undefined {
    return this.#database.get<FirstRow>(
      `SELECT i.vm_id, i.opened_ms, i.power_state, i.opened_how,
         COALESCE((SELECT native_id FROM host WHERE source_id = ?1 AND key = i.host_key), i.host_key) AS host_id
       FROM sighting s JOIN interval i ON i.vm_id = s.vm_id
       WHERE s.source_id = ?1 AND s.native_id = ?2 AND s.gone_ms IS NULL ORDER BY i.opened_ms, i.id LIMIT 1`,
      sourceId,
      nativeId,
    );
  }

  /** A host that is there no more is known by its id alone. */
  #host(sourceId: number, hostId: string | null): { readonly key: string | null; readonly name: string | null } {
    const row = this.#database.get<{ key: string; name: string }>(
      'SELECT key, name FROM host WHERE source_id = ? AND native_id = ?',
      sourceId,
      hostId,
    );
    return row ?? { key: hostId, name: hostId };
  }
}
