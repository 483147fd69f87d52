import { BerthError } from '#base';

export interface JoinOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (bytes: number) => void;
  /** Called for the first of those who join; `shared` fires when the last of them has left. */
  readonly start: (shared: AbortSignal, onProgress: (bytes: number) => void) => Promise<void>;
}

interface Download {
  readonly controller: AbortController;
  readonly listeners: Set<(bytes: number) => void>;
  done: Promise<void>;
}

/** Work that several ask for at the same time and that is done once: a layer that two pulls need. */
export class SharedDownloads {
  readonly #running = new Map<string, Download>();

  /** @throws what `start` throws; images.cancelled (cancelled) when this caller's own signal fires. */
  async join(key: string, options: JoinOptions): Promise<void> {
    const { signal, onProgress } = options;
    if (signal.aborted) throw cancelled();
    const download = this.#running.get(key) ?? this.#start(key, options);
    download.listeners.add(onProgress);
    let leave: () => void = () => {};
    const left = new Promise<void>((_, reject) => {
      leave = () => reject(cancelled());
      signal.addEventListener('abort', leave, { once: true });
    });
    try {
      await Promise.race([download.done, left]);
    } catch (error) {
      download.listeners.delete(onProgress);
      if (download.listeners.size === 0 && this.#running.get(key) === download) {
        this.#running.delete(key);
        download.controller.abort();
        // Whoever cancels waits until the aside files are gone.
        await download.done.catch(() => {});
      }
      throw error;
    } finally {
      signal.removeEventListener('abort', leave);
      download.listeners.delete(onProgress);
    }
  }

  #start(key: string, options: JoinOptions): Download {
    const controller = new AbortController();
    const listeners = new Set<(bytes: number) => void>();
    const download: Download = { controller, listeners, done: Promise.resolve() };
    download.done = options
      .start(controller.signal, (bytes) => {
        for (const listener of listeners) listener(bytes);
      })
      .finally(() => {
        if (this.#running.get(key) === download) this.#running.delete(key);
      });
    // A failure after the last listener left concerns nobody.
    download.done.catch(() => {});
    this.#running.set(key, download);
    return download;
  }
}

function cancelled(): BerthError {
  return new BerthError('cancelled', 'images.cancelled', 'the operation was cancelled');
}
