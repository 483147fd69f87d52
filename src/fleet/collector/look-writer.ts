/**
 * Writes a look down while it goes on: some VMs at a time, each time in a transaction of its own, so that neither the
 * daemon waits for it nor memory grows with the estate. Nobody is made to leave before the look is complete.
 */
import { nowMs, sleep } from '#platform';
import type { SnapshotPage } from '../driver.ts';
import type { Moment } from '../inventory/intervals.ts';
import type { Inventory } from '../inventory/inventory.ts';
import { Look } from '../inventory/look.ts';
import type { Observation } from '../inventory/reconcile.ts';

/** Some tens of milliseconds in which nothing else is done. */
const WRITTEN_AT_ONCE = 125;

export interface LookParts {
  readonly inventory: Inventory;
  readonly sourceId: number;
  readonly holder: string;
  /** Of what is written now. */
  readonly moment: () => Moment;
  /** Gives up between two transactions. */
  readonly signal: AbortSignal;
}

export class LookWriter {
  readonly #parts: LookParts;
  readonly #look = new Look();
  readonly #hostIds = new Set<string>();
  /** Native ids that events told of meanwhile: what the look says about them may be older. */
  readonly #overtaken = new Set<string>();
  readonly #beganMs = nowMs();

  constructor(parts: LookParts) {
    this.#parts = parts;
  }

  overtake(nativeId: string): void {
    this.#overtaken.add(nativeId);
  }

  /** @throws fleet.lease_lost, store.full */
  async take(page: SnapshotPage): Promise<void> {
    const { inventory, sourceId } = this.#parts;
    this.#look.note(page.unread);
    for (const { nativeId } of page.hosts) this.#hostIds.add(nativeId);
    if (page.hosts.length > 0) this.#write({ kind: 'part', vms: [], leaving: [] }, page.hosts);
    for (let from = 0; from < page.vms.length; from += WRITTEN_AT_ONCE) {
      const piece = page.vms.slice(from, from + WRITTEN_AT_ONCE);
      this.#look.note(piece.map((vm) => vm.nativeId));
      // Decided and written without a pause: nothing that was decided by changes between.
      const told = piece.filter((vm) => !this.#overtaken.has(vm.nativeId));
      const vms = this.#look.take(inventory.previous(sourceId), told);
      if (vms.length > 0) this.#write({ kind: 'part', vms, leaving: [] });
      await this.#pause();
    }
  }

  /** The look is complete: strangers who waited, and those who left. @throws fleet.lease_lost, store.full */
  async finish(): Promise<void> {
    const { inventory, sourceId, holder, moment } = this.#parts;
    const isOvertaken = (nativeId: string): boolean => this.#overtaken.has(nativeId);
    for (const part of this.#look.rest(inventory.previous(sourceId), isOvertaken, WRITTEN_AT_ONCE)) {
      const vms = part.vms.filter((vm) => !isOvertaken(vm.nativeId));
      const leaving = part.leaving.filter((nativeId) => !isOvertaken(nativeId));
      this.#write({ ...part, vms, leaving });
      await this.#pause();
    }
    const look = { hostIds: [...this.#hostIds], moment: moment(), beganMs: this.#beganMs, holder };
    inventory.completeLook(sourceId, look);
  }

  /** Others have their turn. */
  async #pause(): Promise<void> {
    await sleep(0);
    this.#parts.signal.throwIfAborted();
  }

  #write(observation: Observation, hosts: SnapshotPage['hosts'] = []): void {
    const { inventory, sourceId, holder, moment } = this.#parts;
    inventory.apply({ sourceId, observation, hosts, moment: moment(), holder });
  }
}
