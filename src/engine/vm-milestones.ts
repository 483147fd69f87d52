/** The moments of a VM's life that others wait for, as promises that always settle. */
import { EventEmitter } from 'node:events';
import { BerthError } from '#base';
import type { ExitFacts } from './model.ts';

interface Moments {
  started: [];
  startFailed: [BerthError];
  /** The main process ran and is over: the machine is gone and the log complete. */
  exited: [ExitFacts];
  /** As `exited`, and also after a start that failed. */
  ended: [ExitFacts];
  removed: [];
  /** The machine of a VM that slept runs again. */
  woke: [];
  removeFailed: [string];
}

export type WaitCondition = 'not-running' | 'next-exit' | 'removed';

export interface WaitOutcome {
  readonly exitCode: number;
  readonly error: string;
}

export class VmMilestones {
  readonly #moments = new EventEmitter<Moments>();

  constructor() {
    this.#moments.setMaxListeners(0);
  }

  started(): void {
    this.#moments.emit('started');
  }

  startFailed(error: BerthError, exit: ExitFacts): void {
    this.#moments.emit('startFailed', error);
    this.#moments.emit('ended', exit);
  }

  exited(exit: ExitFacts): void {
    this.#moments.emit('exited', exit);
    this.#moments.emit('ended', exit);
  }

  woke(): void {
    this.#moments.emit('woke');
  }

  /** Resolves at the next wake, and never without one: race it. */
  untilWoken(): Promise<void> {
    return new Promise((resolve) => {
      this.#moments.once('woke', resolve);
    });
  }

  removed(): void {
    this.#moments.emit('removed');
  }

  removeFailed(why: string): void {
    this.#moments.emit('removeFailed', why);
  }

  /** Rejects with the reason when the start fails, or when the VM is ended or removed before it ran. */
  untilStarted(): Promise<void> {
    return new Promise((resolve, reject) => {
      const listeners = this.#listen({
        started: () => settle(resolve),
        startFailed: (error) => settle(() => reject(error)),
        removed: () =>
          settle(() => reject(new BerthError('conflict', 'vm.ended', 'the VM was removed while it started'))),
      });
      const settle = (how: () => void): void => {
        listeners();
        how();
      };
    });
  }

  untilEnded(): Promise<void> {
    return new Promise((resolve) => this.#moments.once('ended', () => resolve()));
  }

  /** Resolves when the VM runs, or will not: input for it can go on, or nowhere. */
  untilStartedOrEnded(): Promise<void> {
    return new Promise((resolve) => {
      const settle = (): void => {
        listeners();
        resolve();
      };
      const listeners = this.#listen({ started: settle, ended: settle, removed: settle });
    });
  }

  /** @throws vm.remove_failed (unavailable) */
  untilRemoved(): Promise<void> {
    return new Promise((resolve, reject) => {
      const listeners = this.#listen({
        removed: () => {
          listeners();
          resolve();
        },
        removeFailed: (why) => {
          listeners();
          reject(new BerthError('unavailable', 'vm.remove_failed', why));
        },
      });
    });
  }

  /**
   * The outcome of the next end (`not-running`, `next-exit`), or the last one before the removal (`removed`).
   *
   * @throws wait.cancelled (cancelled) when `signal` fires first.
   */
  untilOver(condition: WaitCondition, last: WaitOutcome, signal: AbortSignal): Promise<WaitOutcome> {
    return new Promise((resolve, reject) => {
      let outcome = last;
      const done = (how: () => void): void => {
        listeners();
        signal.removeEventListener('abort', onAbort);
        how();
      };
      const onAbort = (): void => done(() => reject(new BerthError('cancelled', 'wait.cancelled', 'the client left')));
      const listeners = this.#listen({
        exited: ({ exitCode, error }) => {
          outcome = { exitCode, error };
          if (condition !== 'removed') done(() => resolve(outcome));
        },
        removed: () => done(() => resolve(outcome)),
      });
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Returns the function that takes all of them off again. */
  #listen(listeners: { readonly [Name in keyof Moments]?: (...facts: Moments[Name]) => void }): () => void {
    const emitter = this.#moments as EventEmitter;
    const entries = Object.entries(listeners) as [string, (...facts: unknown[]) => void][];
    for (const [name, listener] of entries) emitter.on(name, listener);
    return () => {
      for (const [name, listener] of entries) emitter.off(name, listener);
    };
  }
}
