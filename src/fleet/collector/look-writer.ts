/**
 * Writes a look down while it goes on: some VMs at a time, each time in a transaction of its own, so that neither the
 * daemon waits for it nor memory grows with the estate. Nobody is made to leave before the look is complete.
 */
import { nowMs, sleep, startTimer, type Timer } from '#platform';
import type { SnapshotPage } from '../driver.ts';
import type { VmFacts } from '../facts.ts';
import type { Moment } from '../inventory/intervals.ts';
import type { Inventory, Observed } from '../inventory/inventory.ts';
import { Look } from '../inventory/look.ts';
import type { Observation } from '../inventory/reconcile.ts';

/** Some tens of milliseconds in which nothing else is done; the fewer at once, the more it costs to write each. */
const WRITTEN_AT_ONCE = 500;
/** VMs of small pages are gathered for no longer than this. */
const GATHERED_MS = 250;
/** Those of the search index are written while there is nothing else to do, and take longer each. */
const INDEXED_AT_ONCE = 250;
/** A search reads VMs that have no row in its index yet: 10 µs each. */
const MOST_DUE = 20_000;

export interface LookParts {
  readonly inventory: Inventory;
  readonly sourceId: number;
  readonly holder: string;
  /** Of what is written now. */
  readonly moment: () => Moment;
  /** Gives up between two transactions. */
  readonly signal: AbortSignal;
}

/** What looks left for later. @param signal - gives up between two transactions. */
export async function indexRest(inventory: Inventory, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && inventory.indexDue(INDEXED_AT_ONCE) > 0) await sleep(0);
}

export class LookWriter {
  readonly #parts: LookParts;
  readonly #look = new Look();
  readonly #hostIds = new Set<string>();
  /** Native ids that events told of meanwhile: what the look says about them may be older. */
  readonly #overtaken = new Set<string>();
  readonly #beganMs = nowMs();
  readonly #wroteMuch: () => void;
  /** Who is not there has left, unless nobody was known. */
  readonly #mayLeave: boolean;
  /** Read, and not yet written. */
  readonly #gathered: VmFacts[] = [];
  #patience: Timer | undefined;

  constructor(parts: LookParts) {
    this.#parts = parts;
    this.#wroteMuch = parts.inventory.database.writeMuch();
    this.#mayLeave = parts.inventory.showsAny(parts.sourceId);
  }

  overtake(nativeId: string): void {
    this.#overtaken.add(nativeId);
  }

  /**
   * Writes it now, with the next or in a moment, whichever is first.
   *
   * @throws fleet.lease_lost, store.full
   */
  async take(page: SnapshotPage): Promise<void> {
    this.#look.note(page.unread);
    for (const { nativeId } of page.hosts) this.#hostIds.add(nativeId);
    if (page.hosts.length > 0) this.#write({ kind: 'part', vms: [], leaving: [] }, { hosts: page.hosts });
    this.#look.note(page.vms.map((vm) => vm.nativeId));
    this.#gathered.push(...page.vms);
    while (this.#gathered.length >= WRITTEN_AT_ONCE) {
      this.#writeSome();
      await this.#pause();
    }
    this.#patience?.cancel();
    if (this.#gathered.length > 0) this.#patience = startTimer(GATHERED_MS, () => this.#tryRest());
  }

  /** The look is complete: strangers who waited, and those who left. @throws fleet.lease_lost, store.full */
  async finish(): Promise<void> {
    const { inventory, sourceId, holder, moment } = this.#parts;
    if (this.#gathered.length > 0) this.#writeSome();
    await this.#pause();
    const isOvertaken = (nativeId: string): boolean => this.#overtaken.has(nativeId);
    const known = inventory.previous(sourceId);
    const previous = this.#mayLeave ? known : { ...known, nativeIds: () => [] };
    for (const part of this.#look.rest(previous, isOvertaken, WRITTEN_AT_ONCE)) {
      const vms = part.vms.filter((vm) => !isOvertaken(vm.nativeId));
      const leaving = part.leaving.filter((nativeId) => !isOvertaken(nativeId));
      this.#write({ ...part, vms, leaving });
      await this.#pause();
    }
    const look = { hostIds: [...this.#hostIds], moment: moment(), beganMs: this.#beganMs, holder };
    inventory.completeLook(sourceId, look);
  }

  /** Also of a look that broke off: what it read is written as far as that is possible. */
  end(): void {
    this.#tryRest();
    this.#patience?.cancel();
    this.#wroteMuch();
  }

  /** What cannot be written now is tried again, and told, with what comes next. */
  #tryRest(): void {
    try {
      if (this.#gathered.length > 0) this.#writeSome();
    } catch {}
  }

  #writeSome(): void {
    const { inventory, sourceId } = this.#parts;
    // Decided and written without a pause: nothing that was decided by changes between.
    const piece = this.#gathered.slice(0, WRITTEN_AT_ONCE);
    const told = piece.filter((vm) => !this.#overtaken.has(vm.nativeId));
    const previous = inventory.previous(sourceId, told);
    const vms = this.#look.take(previous, told);
    if (vms.length > 0) this.#write({ kind: 'part', vms, leaving: [] }, { previous });
    this.#gathered.splice(0, piece.length);
  }

  /** Others have their turn. */
  async #pause(): Promise<void> {
    const { inventory } = this.#parts;
    if (inventory.dueAtMost > MOST_DUE) inventory.indexDue(INDEXED_AT_ONCE);
    await sleep(0);
    this.#parts.signal.throwIfAborted();
  }

  #write(observation: Observation, more: Pick<Observed, 'hosts' | 'previous'> = {}): void {
    const { inventory, sourceId, holder, moment } = this.#parts;
    inventory.apply({ sourceId, observation, moment: moment(), holder, indexLater: true, ...more });
  }
}
