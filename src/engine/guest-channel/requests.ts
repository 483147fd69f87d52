import { BerthError } from '#base';
import { startTimer, type Timer } from '#platform';

interface Pending {
  readonly settle: (value: unknown) => void;
  readonly reject: (error: BerthError) => void;
  readonly timer: Timer;
}

/** Requests that wait for a reply. Each settles exactly once: by its reply, its deadline, or `failAll`. */
export class PendingRequests {
  readonly #pending = new Map<string, Pending>();
  #failure: BerthError | undefined;

  /**
   * @param key - what the reply is matched by; at most one request per key may wait.
   * @param send - sends the request; called once, after the wait is in place.
   */
  ask<T>(key: string, deadlineMs: number, send: () => void): Promise<T> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#pending.has(key)) {
      return Promise.reject(new BerthError('conflict', 'guest.busy', `a request ${key} to the guest is still waiting`));
    }
    return new Promise<T>((resolve, reject) => {
      const timer = startTimer(deadlineMs, () => {
        this.#pending.delete(key);
        reject(new BerthError('timeout', 'guest.deadline', `the guest did not answer ${key} within ${deadlineMs} ms`));
      });
      this.#pending.set(key, { settle: (value) => resolve(value as T), reject, timer });
      try {
        send();
      } catch (error) {
        this.#pending.delete(key);
        timer.cancel();
        reject(error);
      }
    });
  }

  /** A reply nobody waits for (its deadline passed) is dropped. */
  answer(key: string, value: unknown): void {
    const pending = this.#pending.get(key);
    if (pending === undefined) return;
    this.#pending.delete(key);
    pending.timer.cancel();
    pending.settle(value);
  }

  failAll(error: BerthError): void {
    this.#failure ??= error;
    for (const { timer, reject } of this.#pending.values()) {
      timer.cancel();
      reject(error);
    }
    this.#pending.clear();
  }
}
