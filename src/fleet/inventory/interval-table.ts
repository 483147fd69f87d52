/** Intervals in their table: the last one of a VM, and the step from it to what is now. */
import type { Database } from '#store';
import type { PowerState } from '../facts.ts';
import { type Last, type Moment, type Standing, type Step, step } from './intervals.ts';

interface Row {
  readonly id: number;
  readonly source_id: number;
  readonly host_key: string | null;
  readonly host_name: string | null;
  readonly power_state: PowerState;
  readonly vcpus: number | null;
  readonly memory_bytes: number | null;
  readonly disk_bytes: number | null;
  readonly addresses: number | null;
  readonly owner: string | null;
  readonly opened_ms: number;
  readonly closed_ms: number | null;
}

export class IntervalTable {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** What was told of the time before is no beginning for what is seen. */
  last(vmId: number): Last {
    const row = this.#database.get<Row>(
      "SELECT * FROM interval WHERE vm_id = ? AND opened_how <> 'told' ORDER BY opened_ms DESC, id DESC LIMIT 1",
      vmId,
    );
    if (row === undefined) return undefined;
    if (row.closed_ms !== null) return { endedMs: row.closed_ms };
    const standing: Standing = {
      sourceId: row.source_id,
      hostKey: row.host_key,
      hostName: row.host_name,
      powerState: row.power_state,
      vcpus: row.vcpus,
      memoryBytes: row.memory_bytes,
      diskBytes: row.disk_bytes,
      addresses: row.addresses,
      owner: row.owner,
    };
    return { id: row.id, standing, openedMs: row.opened_ms };
  }

  /** @param now - `next` undefined when no source shows the VM any more. */
  move(vmId: number, last: Last, now: { readonly next: Standing | undefined; readonly moment: Moment }): void {
    const { learn, close, open } = step(last, now.next, now.moment);
    if (learn !== undefined)
      this.#database.run(
        'UPDATE interval SET addresses = ?, owner = ? WHERE id = ?',
        learn.addresses,
        learn.owner,
        learn.id,
      );
    if (close !== undefined) this.#close(close);
    if (open !== undefined) this.#open(vmId, open);
  }

  /** Open intervals that rest on a source alone, by VM. */
  restingOn(sourceId: number): number[] {
    return this.#database
      .all<{ vm_id: number }>('SELECT vm_id FROM interval WHERE closed_ms IS NULL AND source_id = ?', sourceId)
      .map((row) => row.vm_id);
  }

  /** The VM is as it was, and another source says so from now on. */
  handOver(vmId: number, standing: Standing, moment: Moment): void {
    const last = this.last(vmId);
    if (last === undefined || !('openedMs' in last)) return;
    const atMs = Math.max(moment.atMs, last.openedMs);
    const when = { ...moment, atMs, observedMs: Math.max(moment.observedMs, atMs), notBeforeMs: atMs };
    this.#close({ id: last.id, moment: when });
    this.#open(vmId, { standing, moment: when, causes: ['source'], movedFrom: null });
  }

  #close({ id, moment }: NonNullable<Step['close']>): void {
    const { atMs, observedMs, notBeforeMs, how } = moment;
    this.#database.run(
      'UPDATE interval SET closed_ms = ?, closed_observed_ms = ?, closed_not_before_ms = ?, closed_how = ? WHERE id = ?',
      atMs,
      observedMs,
      notBeforeMs,
      how,
      id,
    );
  }

  #open(vmId: number, { standing, moment, causes, movedFrom }: NonNullable<Step['open']>): void {
    this.#database.run(
      `INSERT INTO interval (vm_id, source_id, host_key, host_name, power_state, vcpus, memory_bytes, disk_bytes,
       addresses, owner, causes, moved_from, opened_ms, opened_observed_ms, opened_not_before_ms, opened_how)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      vmId,
      standing.sourceId,
      standing.hostKey,
      standing.hostName,
      standing.powerState,
      standing.vcpus,
      standing.memoryBytes,
      standing.diskBytes,
      standing.addresses,
      standing.owner,
      causes.join(','),
      movedFrom,
      moment.atMs,
      moment.observedMs,
      moment.notBeforeMs,
      moment.how,
    );
  }
}
