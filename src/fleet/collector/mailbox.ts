/** What reaches a source's loop while it is busy: changes in their order, and the wish to look again. */
import { startTimer } from '#platform';
import type { VmChange } from '../driver.ts';

/** A source that sends faster than we write is looked at anew instead. */
const MOST_CHANGES = 10_000;

export type Wake = 'change' | 'time' | 'look' | 'over';

export class Mailbox {
  readonly #changes: VmChange[] = [];
  #wantsLook = false;
  #isOver = false;
  #rouse: () => void = () => {};

  add(change: VmChange): void {
    if (change.kind === 'missed' || this.#changes.length >= MOST_CHANGES) this.#wantsLook = true;
    else this.#changes.push(change);
    this.#rouse();
  }

  askForLook(): void {
    this.#wantsLook = true;
    this.#rouse();
  }

  /** The session is over, or the loop is told to end. */
  end(): void {
    this.#isOver = true;
    this.#rouse();
  }

  take(): VmChange[] {
    return this.#changes.splice(0);
  }

  /** What there is to do next, at once or after the wait. Asking clears the wish to look. */
  async next(deadlineMs: number): Promise<Wake> {
    const now = this.#now();
    if (now !== undefined) return now;
    await new Promise<void>((resolve) => {
      const timer = startTimer(Math.max(0, deadlineMs), resolve);
      this.#rouse = () => {
        timer.cancel();
        resolve();
      };
    });
    return this.#now() ?? 'time';
  }

  #now(): Wake | undefined {
    if (this.#isOver) return 'over';
    if (this.#changes.length > 0) return 'change';
    if (!this.#wantsLook) return undefined;
    this.#wantsLook = false;
    return 'look';
  }
}
