/**
 * The log of a VM's main process: what it wrote, in order, with nothing lost or repeated when berthd dies.
 *
 * A file of records, appended to and never changed:
 *
 *     u32 magic "BLG1" │ u32 length │ u32 run │ u8 stream, 3 zero │ f64 time (ms) │ u64 stdout end │ u64 stderr end │ data │ u32 length │ u32 magic
 *
 * `stdout end` and `stderr end` count the bytes of that run (a run is one start of the VM) including this record, so
 * the last whole record says what the guest may forget. A record torn by a crash is cut off when the file is opened:
 * its bytes were never acknowledged, the guest still has them and sends them again. The trailer lets `tail` read backwards.
 */
import { EventEmitter } from 'node:events';
import { BerthError, errnoOf, messageOf } from '#base';
import { files, nowMs, sleep } from '#platform';

const MAGIC = 0x31474c42;
const HEADER_BYTES = 40;
const TRAILER_BYTES = 8;
/** No record is larger; the guest's frames are at most 64 KiB. */
const MAX_DATA_BYTES = 128 * 1024;
/** Between two tries to write to a full disk; the writer in the guest waits meanwhile. */
const FULL_DISK_RETRY_MS = 500;

export type OutputStream = 1 | 2;

export interface LogRecord {
  readonly stream: OutputStream;
  readonly timeMs: number;
  readonly data: Buffer;
}

export interface LogOffsets {
  readonly run: number;
  readonly stdout: number;
  readonly stderr: number;
}

interface Located extends LogRecord {
  readonly run: number;
  readonly stdoutEnd: number;
  readonly stderrEnd: number;
  readonly start: number;
  readonly end: number;
}

interface Waiting {
  readonly run: number;
  readonly stream: OutputStream;
  readonly data: Buffer;
  readonly onSafe: (end: number) => void;
}

/** Emitted after a record is on file: its place and bytes, so that a reader at that place needs no read. */
export interface Appended {
  readonly start: number;
  readonly end: number;
  readonly record: LogRecord;
}

export class ProcessLog {
  readonly #path: string;
  readonly #handle: files.FileHandle;
  readonly #appended = new EventEmitter<{ appended: [Appended]; ended: [] }>();
  #size: number;
  #offsets: LogOffsets;
  #waiting: Waiting[] = [];
  #writing: Promise<void> | undefined;
  #closed = false;
  /** Why the last write failed, while berthd keeps trying; empty when all is well. */
  trouble = '';

  private constructor(path: string, handle: files.FileHandle, size: number, offsets: LogOffsets) {
    this.#path = path;
    this.#handle = handle;
    this.#size = size;
    this.#offsets = offsets;
    this.#appended.setMaxListeners(0);
  }

  /** Opens or makes the log and cuts a torn record off its end. */
  static async open(path: string): Promise<ProcessLog> {
    const handle = await files.open(path, files.fsConstants.O_RDWR | files.fsConstants.O_CREAT, 0o600);
    try {
      const { size } = await handle.stat();
      const last = (await readBackward(handle, size)) ?? (await lastWholeRecord(handle, size));
      const end = last?.end ?? 0;
      if (end !== size) await handle.truncate(end);
      const offsets = { run: last?.run ?? 0, stdout: last?.stdoutEnd ?? 0, stderr: last?.stderrEnd ?? 0 };
      return new ProcessLog(path, handle, end, offsets);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** Where the guest has to go on: the bytes of `run` that are on file, per stream. */
  offsetsOf(run: number): LogOffsets {
    return this.#offsets.run === run ? this.#offsets : { run, stdout: 0, stderr: 0 };
  }

  get size(): number {
    return this.#size;
  }

  /** Whether nothing more can come: the process has ended and everything it wrote is on file. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Queues `data`; `onSafe` gets the stream's new offset once it is written. A full disk delays it, nothing is dropped. */
  append(run: number, stream: OutputStream, data: Buffer, onSafe: (end: number) => void): void {
    this.#waiting.push({ run, stream, data, onSafe });
    this.#writing ??= this.#drain().finally(() => {
      this.#writing = undefined;
    });
  }

  /** Whether somebody waits for what comes next. */
  get isFollowed(): boolean {
    return this.#appended.listenerCount('appended') > 0;
  }

  /** Resolves when all that was appended so far is on file. */
  async settled(): Promise<void> {
    await this.#writing;
  }

  /** The process has ended: followers see the end once they have read everything. */
  markEnded(): void {
    this.#closed = true;
    this.#appended.emit('ended');
  }

  /** The VM starts again: followers that join now wait for new output. */
  markStarted(): void {
    this.#closed = false;
  }

  async close(): Promise<void> {
    await this.settled();
    this.markEnded();
    await this.#handle.close();
  }

  /** Calls `onAppended` for each record from now on and `onEnded` once; returns the function that stops it. */
  subscribe(onAppended: (appended: Appended) => void, onEnded: () => void): () => void {
    this.#appended.on('appended', onAppended);
    this.#appended.on('ended', onEnded);
    return () => {
      this.#appended.off('appended', onAppended);
      this.#appended.off('ended', onEnded);
    };
  }

  /** The records from byte `position` on, as far as the file goes now. */
  async *read(position: number): AsyncGenerator<{ record: LogRecord; end: number }> {
    let at = position;
    while (at < this.#size) {
      const located = await readForward(this.#handle, at, this.#size);
      if (located === undefined) {
        throw new BerthError('data_loss', 'log.damaged', `the log ${this.#path} has no whole record at byte ${at}`);
      }
      yield { record: located, end: located.end };
      at = located.end;
    }
  }

  /** The position from which at most `lines` last lines of the chosen streams are read; may be earlier by part of a record. */
  async positionOfTail(lines: number, wanted: (stream: OutputStream) => boolean): Promise<number> {
    let at = this.#size;
    let newlines = 0;
    while (at > 0) {
      const located = await readBackward(this.#handle, at);
      if (located === undefined) return 0;
      if (wanted(located.stream)) {
        for (const byte of located.data) if (byte === 10) newlines += 1;
        // One more than asked for: the newline before the first wanted line, and one for a last line without its own.
        if (newlines > lines + 1) return located.start;
      }
      at = located.start;
    }
    return 0;
  }

  async #drain(): Promise<void> {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      await this.#write(next);
      this.#waiting.shift();
    }
  }

  async #write(next: Waiting): Promise<void> {
    const before = this.offsetsOf(next.run);
    const offsets = {
      run: next.run,
      stdout: before.stdout + (next.stream === 1 ? next.data.length : 0),
      stderr: before.stderr + (next.stream === 2 ? next.data.length : 0),
    };
    const record = { stream: next.stream, timeMs: nowMs(), data: next.data };
    const bytes = encode(record, offsets);
    for (;;) {
      try {
        const { bytesWritten } = await this.#handle.write(bytes, 0, bytes.length, this.#size);
        if (bytesWritten === bytes.length) break;
        this.trouble = 'the host disk took only part of a write';
      } catch (error) {
        const errno = errnoOf(error);
        if (errno !== 'ENOSPC' && errno !== 'EDQUOT' && errno !== 'EIO') throw error;
        this.trouble = `cannot write the log ${this.#path}: ${messageOf(error)}`;
      }
      await sleep(FULL_DISK_RETRY_MS);
    }
    this.trouble = '';
    const start = this.#size;
    this.#size += bytes.length;
    this.#offsets = offsets;
    next.onSafe(next.stream === 1 ? offsets.stdout : offsets.stderr);
    this.#appended.emit('appended', { start, end: this.#size, record });
  }
}

function encode(record: LogRecord, offsets: LogOffsets): Buffer {
  const length = record.data.length;
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + length + TRAILER_BYTES);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(length, 4);
  bytes.writeUInt32LE(offsets.run, 8);
  bytes.writeUInt32LE(record.stream, 12);
  bytes.writeDoubleLE(record.timeMs, 16);
  bytes.writeBigUInt64LE(BigInt(offsets.stdout), 24);
  bytes.writeBigUInt64LE(BigInt(offsets.stderr), 32);
  record.data.copy(bytes, HEADER_BYTES);
  bytes.writeUInt32LE(length, HEADER_BYTES + length);
  bytes.writeUInt32LE(MAGIC, HEADER_BYTES + length + 4);
  return bytes;
}

async function readExactly(handle: files.FileHandle, position: number, length: number): Promise<Buffer | undefined> {
  const bytes = Buffer.allocUnsafe(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(bytes, done, length - done, position + done);
    if (bytesRead === 0) return undefined;
    done += bytesRead;
  }
  return bytes;
}

async function readForward(handle: files.FileHandle, start: number, size: number): Promise<Located | undefined> {
  if (start + HEADER_BYTES + TRAILER_BYTES > size) return undefined;
  const header = await readExactly(handle, start, HEADER_BYTES);
  if (header === undefined || header.readUInt32LE(0) !== MAGIC) return undefined;
  const length = header.readUInt32LE(4);
  const end = start + HEADER_BYTES + length + TRAILER_BYTES;
  if (length > MAX_DATA_BYTES || end > size) return undefined;
  const rest = await readExactly(handle, start + HEADER_BYTES, length + TRAILER_BYTES);
  if (rest === undefined || rest.readUInt32LE(length) !== length || rest.readUInt32LE(length + 4) !== MAGIC)
    return undefined;
  return {
    run: header.readUInt32LE(8),
    stream: header.readUInt32LE(12) === 2 ? 2 : 1,
    timeMs: header.readDoubleLE(16),
    stdoutEnd: Number(header.readBigUInt64LE(24)),
    stderrEnd: Number(header.readBigUInt64LE(32)),
    data: rest.subarray(0, length),
    start,
    end,
  };
}

async function readBackward(handle: files.FileHandle, end: number): Promise<Located | undefined> {
  if (end < HEADER_BYTES + TRAILER_BYTES) return undefined;
  const trailer = await readExactly(handle, end - TRAILER_BYTES, TRAILER_BYTES);
  if (trailer === undefined || trailer.readUInt32LE(4) !== MAGIC) return undefined;
  const start = end - TRAILER_BYTES - trailer.readUInt32LE(0) - HEADER_BYTES;
  if (start < 0) return undefined;
  const located = await readForward(handle, start, end);
  return located?.end === end ? located : undefined;
}

/** Only for a file whose end is torn: walks it from the start. */
async function lastWholeRecord(handle: files.FileHandle, size: number): Promise<Located | undefined> {
  let last: Located | undefined;
  for (let at = 0; at < size; ) {
    const located = await readForward(handle, at, size);
    if (located === undefined) break;
    last = located;
    at = located.end;
  }
  return last;
}
