/** Lets go of consumption that is older than is wanted, unless somebody still reckons with it. Looks once a day. */
import { messageOf } from '#base';
import { nowMs, sleep } from '#platform';
import { type Month, monthsAgoMs } from '../consumption/months.ts';
import type { PrunedKind, PruneTable } from '../consumption/prune-table.ts';

/** After a start others come first. */
const FIRST_AFTER_MS = 10_000;
const EVERY_MS = 24 * 3_600_000;
/** Between two steps, 14 ms on average, others have their turn. */
const BETWEEN_STEPS_MS = 20;

/** How many months are kept beside the one that goes on; undefined: all. */
export interface Retention {
  readonly hoursMonths: number | undefined;
  readonly gapsMonths: number | undefined;
}

export interface Keeping {
  readonly retention: Retention;
  /** Which of these months are in a bill that is not closed: nothing of them goes. A throw keeps all. */
  readonly neededMonths: (months: readonly string[]) => Promise<readonly string[]>;
}

export interface PrunerParts extends Keeping {
  readonly table: PruneTable;
  readonly log: (line: string) => void;
}

export class Pruner {
  readonly #parts: PrunerParts;
  readonly #leaving = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(parts: PrunerParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#leaving.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#leaving;
    try {
      for (let waitMs = FIRST_AFTER_MS; ; waitMs = EVERY_MS) {
        await sleep(waitMs, signal);
        try {
          await this.prune(nowMs());
        } catch (error) {
          // What is kept a day longer than wanted does no harm.
          if (!signal.aborted) this.#parts.log(`fleet: old consumption could not be let go: ${messageOf(error)}`);
        }
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** All that may go by now. @throws what the bill's side throws, before anything of its months has gone. */
  async prune(atMs: number): Promise<void> {
    const { hoursMonths, gapsMonths } = this.#parts.retention;
    await this.#pruneKind('hours', hoursMonths, atMs);
    await this.#pruneKind('gaps', gapsMonths, atMs);
  }

  async #pruneKind(kind: PrunedKind, months: number | undefined, atMs: number): Promise<void> {
    if (months === undefined) return;
    const old = this.#parts.table.monthsBefore(kind, monthsAgoMs(atMs, months));
    if (old.length === 0) return;
    const needed = new Set(await this.#parts.neededMonths(old.map((month) => month.name)));
    let sinceMs = 0;
    for (const month of old) {
      if (needed.has(month.name)) sinceMs = month.endMs;
      else await this.#pruneMonth(kind, month, { sinceMs, nowMs: atMs });
    }
  }

  async #pruneMonth(kind: PrunedKind, month: Month, when: { readonly sinceMs: number; readonly nowMs: number }) {
    let rows = 0;
    for (;;) {
      const taken = this.#parts.table.step(kind, month, when);
      if (taken === 0) break;
      rows += taken;
      await sleep(BETWEEN_STEPS_MS, this.#leaving.signal);
    }
    if (rows > 0) this.#parts.log(`fleet: ${kind} of consumption of ${month.name} are not kept any more: ${rows} rows`);
  }
}
