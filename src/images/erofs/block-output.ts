import { errnoOf } from '#base';
import { BLOCK_BYTES } from './erofs-format.ts';

/** What the output needs of a file: the subset of a file handle that tests can stand in for. */
export interface OutputFile {
  write(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesWritten: number }>;
  datasync(): Promise<void>;
}

/** Large enough that a system call's cost vanishes, small enough that a few in flight cost no memory to speak of. */
const BUFFER_BYTES = 1024 * 1024;
/** Full buffers that may wait for the disk before `drain` holds the producer back. */
const MAX_WAITING = 4;
/** Written bytes after which the kernel is asked to begin writing back, so that the last fsync finds little to do. */
const SYNC_EVERY_BYTES = 32 * 1024 * 1024;

/**
 * An append-only file with synchronous `append` and asynchronous writing behind it.
 *
 * The producer appends what one input chunk gave and then awaits `drain`; memory is bounded by the buffers in flight
 * and one chunk. The first write error is kept and thrown by the next `drain` or `flush`.
 */
export class BlockOutput {
  readonly #file: OutputFile;
  readonly #free: Buffer[] = [];
  #buffer: Buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  #used = 0;
  #flushedBytes = 0;
  #waiting = 0;
  #tail: Promise<void> = Promise.resolve();
  #failure: { readonly error: unknown } | undefined;
  #unsyncedBytes = 0;
  #sync: Promise<void> | undefined;

  constructor(file: OutputFile) {
    this.#file = file;
  }

  /** Bytes appended so far: the offset of the next one. */
  get position(): number {
    return this.#flushedBytes + this.#used;
  }

  append(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      const taken = bytes.copy(this.#buffer, this.#used, at);
      this.#used += taken;
      at += taken;
      if (this.#used === BUFFER_BYTES) this.#retire();
    }
  }

  /** Zeros up to the next block boundary. */
  padToBlock(): void {
    const excess = this.#used % BLOCK_BYTES;
    if (excess === 0) return;
    // BUFFER_BYTES is a multiple of the block, so the padding always fits into the buffer.
    const end = this.#used + BLOCK_BYTES - excess;
    this.#buffer.fill(0, this.#used, end);
    this.#used = end;
    if (this.#used === BUFFER_BYTES) this.#retire();
  }

  async drain(): Promise<void> {
    while (this.#waiting > MAX_WAITING) await this.#tail;
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async flush(): Promise<void> {
    if (this.#used > 0) this.#retire();
    await this.#tail;
    await this.#sync;
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Overwrites bytes that `flush` has written. */
  async patch(bytes: Buffer, position: number): Promise<void> {
    await this.#writeAll(bytes, bytes.length, position);
  }

  #retire(): void {
    const buffer = this.#buffer;
    const length = this.#used;
    const position = this.#flushedBytes;
    this.#flushedBytes += length;
    this.#used = 0;
    this.#waiting += 1;
    this.#tail = this.#tail.then(async () => {
      try {
        if (this.#failure === undefined) await this.#writeAll(buffer, length, position);
        this.#beginSync(length);
      } catch (error) {
        this.#failure ??= { error };
      } finally {
        this.#waiting -= 1;
        this.#free.push(buffer);
      }
    });
    this.#buffer = this.#free.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES);
  }

  async #writeAll(buffer: Buffer, length: number, position: number): Promise<void> {
    let done = 0;
    while (done < length) {
      const { bytesWritten } = await this.#file.write(buffer, done, length - done, position + done);
      done += bytesWritten;
    }
  }

  #beginSync(bytes: number): void {
    this.#unsyncedBytes += bytes;
    if (this.#sync !== undefined || this.#unsyncedBytes < SYNC_EVERY_BYTES) return;
    this.#unsyncedBytes = 0;
    this.#sync = this.#file
      .datasync()
      .catch((error: unknown) => {
        // A file system without fdatasync loses nothing here: the last sync decides.
        if (errnoOf(error) !== 'EINVAL') this.#failure ??= { error };
      })
      .finally(() => {
        this.#sync = undefined;
      });
  }
}
