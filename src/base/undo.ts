/**
 * A stack of undo steps for an operation of several stages.
 *
 * `push` after each stage that succeeded; `unwind` on failure runs the steps newest first and never throws: a step
 * that fails is reported to `onError` and the rest still run. `release` forgets them when the operation has succeeded.
 */
export class UndoStack {
  readonly #steps: (() => void | Promise<void>)[] = [];

  push(step: () => void | Promise<void>): void {
    this.#steps.push(step);
  }

  release(): void {
    this.#steps.length = 0;
  }

  async unwind(onError: (error: unknown) => void): Promise<void> {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step();
      } catch (error) {
        onError(error);
      }
    }
  }
}
