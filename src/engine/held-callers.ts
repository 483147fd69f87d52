/**
 * Who is served first when a VM wakes: connections that were held for it, or the guest program's business with berthd.
 *
 * The guest of a machine that was just filled does everything for the first time, and one thing after the other. Whoever
 * connected waits for an answer; the greeting can wait, unless somebody waits for the guest program too.
 */
import { startTimer } from '#platform';

export class HeldCallers {
  #count = 0;
  #isHurried = false;
  #settle: () => void = () => {};

  /** A connection is held for the VM. Call the answer when the VM has answered it, or it is gone; it counts once. */
  enter(): () => void {
    this.#count += 1;
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      this.#count -= 1;
      if (this.#count === 0) this.#settle();
    };
  }

  /** Somebody needs the guest program of the VM that wakes. */
  hurry(): void {
    this.#isHurried = true;
    this.#settle();
  }

  /** Resolves when nobody waits any more, somebody hurries, or `latestMs` are over. */
  untilServed(latestMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = startTimer(latestMs, () => this.#settle());
      this.#settle = () => {
        timer.cancel();
        this.#settle = () => {};
        resolve();
      };
      if (this.#isHurried || this.#count === 0) this.#settle();
    });
  }

  /** The VM is awake, or will not be: nobody hurries any more. */
  over(): void {
    this.#isHurried = false;
  }
}
