import type { BerthError } from '#base';

interface Waiting {
  readonly resolve: () => void;
  readonly reject: (error: BerthError) => void;
  data: Uint8Array;
}

/**
 * Input of one process on its way to the guest, inside the guest's window.
 *
 * Pure but for the promises it settles: `take` says what may be sent now. Every `push` settles: when its last byte
 * was taken, or when the queue fails.
 */
export class StdinQueue {
  readonly #waiting: Waiting[] = [];
  #sent: number;
  #window: number;
  #failure: BerthError | undefined;
  #endAsked = false;

  /** @param sent - bytes the guest has received already. Nothing may be sent before a window comes. */
  constructor(sent: number) {
    this.#sent = sent;
    this.#window = sent;
  }

  push(data: Uint8Array): Promise<void> {
    const failure = this.#failure;
    if (failure !== undefined) return Promise.reject(failure);
    if (data.length === 0) return Promise.resolve();
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject, data }));
  }

  /** The guest's word on how far may be sent. Windows only grow. */
  open(offset: number): void {
    this.#window = Math.max(this.#window, offset);
  }

  /** At most `limit` bytes that may be sent now, or undefined. The caller sends what it takes. */
  take(limit: number): Uint8Array | undefined {
    const first = this.#waiting[0];
    const room = Math.min(limit, this.#window - this.#sent);
    if (first === undefined || room <= 0) return undefined;
    const part = first.data.subarray(0, room);
    this.#sent += part.length;
    if (part.length === first.data.length) {
      this.#waiting.shift();
      first.resolve();
    } else {
      first.data = first.data.subarray(part.length);
    }
    return part;
  }

  end(): void {
    this.#endAsked = true;
  }

  /** True once, when the end was asked for and everything before it was taken. */
  takeEnd(): boolean {
    if (!this.#endAsked || this.#waiting.length > 0) return false;
    this.#endAsked = false;
    return true;
  }

  fail(error: BerthError): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }
}
