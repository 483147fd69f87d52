/** Keeps the owners in the inventory in line with the rules: at once when they change, and whenever one of them begins or ends. */
import { messageOf } from '#base';
import { nowMs, startTimer, type Timer } from '#platform';
import type { OwnerBook, OwnerRules } from '../inventory/owner-rules.ts';
import type { VmOwners } from '../inventory/vm-owners.ts';

/** A clock that was set, or a machine that slept, is noticed after so long. */
const LONGEST_WAIT_MS = 60_000;
/** Between two steps others have their turn. */
const BETWEEN_STEPS_MS = 5;

export class OwnerKeeper {
  readonly #book: OwnerBook;
  readonly #owners: VmOwners;
  readonly #log: (line: string) => void;
  #timer: Timer | undefined;
  #isStopped = false;

  constructor(parts: { readonly book: OwnerBook; readonly owners: VmOwners; readonly log: (line: string) => void }) {
    this.#book = parts.book;
    this.#owners = parts.owners;
    this.#log = parts.log;
  }

  follow(rules: OwnerRules): void {
    this.#book.replace(rules);
    this.#in(0);
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  #in(ms: number): void {
    this.#timer?.cancel();
    if (!this.#isStopped) this.#timer = startTimer(ms, () => this.#turn());
  }

  #turn(): void {
    try {
      if (!this.#owners.step(nowMs())) {
        this.#in(BETWEEN_STEPS_MS);
        return;
      }
    } catch (error) {
      // A full disk or a database somebody else writes to: the rows are as they were, and it is tried again.
      this.#log(`fleet: owners could not be decided: ${messageOf(error)}`);
      this.#in(LONGEST_WAIT_MS);
      return;
    }
    const now = nowMs();
    this.#in(Math.min(Math.max((this.#book.nextCutMs(now) ?? Number.POSITIVE_INFINITY) - now, 1), LONGEST_WAIT_MS));
  }
}
