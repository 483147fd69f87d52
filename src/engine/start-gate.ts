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

  /** Resolves when it is the caller's turn, with what ends the turn; call it once or more, it counts once. */
  async enter(): Promise<() => void> {
    if (this.#free > 0) this.#free -= 1;
    else
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    };
  }
}
