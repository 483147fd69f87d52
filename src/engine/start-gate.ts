/**
 * Starts take turns: more at once than the host has processors for would only make each of them late, and the last ones
 * too late. First come, first served.
 */
export class StartGate {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /** @param most - starts under way at the same time. */
  constructor(most: number) {
    this.#free = most;
  }

  /**
   * Resolves when it is the caller's turn, with what ends the turn; call it once or more, it counts once. Whoever no longer
   * wants a turn says so with `signal`, and is let through at once without one.
   */
  async enter(signal: AbortSignal): Promise<() => void> {
    if (signal.aborted) return () => {};
    if (this.#free > 0) this.#free -= 1;
    else if (!(await this.#turn(signal))) return () => {};
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    };
  }

  /** Whether it came. */
  #turn(signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const come = (): void => {
        signal.removeEventListener('abort', leave);
        resolve(true);
      };
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(come), 1);
        resolve(false);
      };
      this.#waiting.push(come);
      signal.addEventListener('abort', leave, { once: true });
    });
  }
}
