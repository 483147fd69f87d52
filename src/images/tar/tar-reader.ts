/**
 * A tar archive as events: a pure byte machine, fed chunks of any size.
 *
 *     header ──file──▶ body ─▶ padding ─▶ header
 *       │ x g L K ───▶ extension (kept whole, ≤ 1 MiB) ─▶ padding ─▶ header
 *       │ zero block ▶ second header ── zero ──▶ trailer (to the end of input)
 *
 * Invariants: every input byte reaches the sink exactly once and in order, as `raw` (headers, extensions, padding,
 * trailer) or as `body` (a file's content), so that the archive can be put together again; nothing is created on the
 * host; memory is bounded by one extension header, whatever the input.
 */
import { type PaxRecords, parsePax, parsePaxInteger, parsePaxTime, paxXattrs } from './pax.ts';
import {
  displayName,
  normalisePath,
  PATH_MAX_BYTES,
  type TarEntry,
  type TarEntryType,
  tarRefusal,
} from './tar-entry.ts';
import { isZeroBlock, parseTarHeader, TAR_BLOCK_BYTES, type TarHeader } from './tar-header.ts';

export interface TarSink {
  /** Bytes that are not a file's content. The buffer may be reused by the caller after `push` returns. */
  raw(bytes: Buffer): void;
  entry(entry: TarEntry): void;
  /** Part of the content of the file that the last `entry` announced. */
  body(bytes: Buffer): void;
  /** After every entry, also those without content. */
  entryEnd(): void;
}

export interface TarLimits {
  readonly maxEntries: number;
  /** Bytes of all file contents together. */
  readonly maxContentBytes: number;
}

/** Two million entries keep the tree below about 1 GiB of memory; the largest public images have about 500,000. */
export const DEFAULT_TAR_LIMITS: TarLimits = { maxEntries: 2_000_000, maxContentBytes: 64 * 1024 ** 3 };

/** Go's archive/tar and berth both hold an extension header to 1 MiB; a larger one is an attack on memory. */
const EXTENSION_MAX_BYTES = 1024 * 1024;

const NO_RECORDS: PaxRecords = new Map();
const NO_XATTRS: ReadonlyMap<string, Buffer> = new Map();

const TYPES: Readonly<Record<string, TarEntryType>> = {
  '0': 'file',
  '7': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
};

type State = 'header' | 'secondHeader' | 'extension' | 'body' | 'padding' | 'trailer';

export class TarReader {
  readonly #sink: TarSink;
  readonly #limits: TarLimits;
  readonly #partial = Buffer.alloc(TAR_BLOCK_BYTES);
  #partialBytes = 0;
  #state: State = 'header';
  /** Bytes left of the current body, extension or padding. */
  #left = 0;
  #paddingBytes = 0;
  #extensionFlag = '';
  #extension: Buffer[] = [];
  #globals: PaxRecords = NO_RECORDS;
  #locals: PaxRecords = NO_RECORDS;
  #longName: string | undefined;
  #longLink: string | undefined;
  #entries = 0;
  #contentBytes = 0;

  constructor(sink: TarSink, limits: TarLimits = DEFAULT_TAR_LIMITS) {
    this.#sink = sink;
    this.#limits = limits;
  }

  /** Entries announced so far. */
  get entryCount(): number {
    return this.#entries;
  }

  /** Bytes of file content announced so far. */
  get contentBytes(): number {
    return this.#contentBytes;
  }

  /** @throws a `tar.*` refusal (invalid); the reader must not be used after one. */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#state === 'header' || this.#state === 'secondHeader') at += this.#takeHeader(chunk, at);
      else if (this.#state === 'trailer') {
        this.#sink.raw(at === 0 ? chunk : chunk.subarray(at));
        return;
      } else {
        const end = Math.min(chunk.length, at + this.#left);
        this.#takeBytes(chunk.subarray(at, end));
        at = end;
      }
    }
  }

  /** @throws tar.truncated (invalid) when the input ended inside an entry. An absent end mark is accepted, as Go does. */
  end(): void {
    const isComplete = (this.#state === 'header' || this.#state === 'secondHeader') && this.#partialBytes === 0;
    const hasExtension = this.#longName !== undefined || this.#longLink !== undefined || this.#locals.size > 0;
    if (this.#state !== 'trailer' && (!isComplete || hasExtension)) {
      throw tarRefusal('truncated', 'the archive is truncated: it ends inside an entry');
    }
  }

  #takeHeader(chunk: Buffer, at: number): number {
    if (this.#partialBytes === 0 && chunk.length - at >= TAR_BLOCK_BYTES) {
      this.#header(chunk.subarray(at, at + TAR_BLOCK_BYTES));
      return TAR_BLOCK_BYTES;
    }
    const taken = chunk.copy(this.#partial, this.#partialBytes, at, at + TAR_BLOCK_BYTES - this.#partialBytes);
    this.#partialBytes += taken;
    if (this.#partialBytes === TAR_BLOCK_BYTES) {
      this.#partialBytes = 0;
      this.#header(this.#partial);
    }
    return taken;
  }

  #header(block: Buffer): void {
    this.#sink.raw(block);
    if (isZeroBlock(block)) {
      this.#state = this.#state === 'secondHeader' ? 'trailer' : 'secondHeader';
      return;
    }
    if (this.#state === 'secondHeader') {
      throw tarRefusal('bad_checksum', 'the archive is damaged: an entry follows a block of zeros');
    }
    const header = parseTarHeader(block);
    if ('xgLK'.includes(header.typeFlag)) this.#beginExtension(header);
    else this.#beginEntry(header);
  }

  #beginExtension(header: TarHeader): void {
    if (header.sizeBytes > EXTENSION_MAX_BYTES) {
      throw tarRefusal(
        'extension_too_large',
        `an extension header of ${header.sizeBytes} bytes exceeds the limit of ${EXTENSION_MAX_BYTES}`,
      );
    }
    this.#entries += 1;
    this.#checkEntryCount();
    this.#extensionFlag = header.typeFlag;
    this.#extension = [];
    this.#begin('extension', header.sizeBytes);
  }

  #begin(state: 'extension' | 'body', sizeBytes: number): void {
    this.#left = sizeBytes;
    this.#paddingBytes = (TAR_BLOCK_BYTES - (sizeBytes % TAR_BLOCK_BYTES)) % TAR_BLOCK_BYTES;
    this.#state = state;
    if (sizeBytes === 0) this.#endBytes();
  }

  #takeBytes(bytes: Buffer): void {
    this.#left -= bytes.length;
    if (this.#state === 'body') this.#sink.body(bytes);
    else {
      this.#sink.raw(bytes);
      if (this.#state === 'extension') this.#extension.push(Buffer.from(bytes));
    }
    if (this.#left === 0) this.#endBytes();
  }

  #endBytes(): void {
    if (this.#state === 'extension') this.#endExtension();
    else if (this.#state === 'body') this.#sink.entryEnd();
    if (this.#state !== 'padding' && this.#paddingBytes > 0) {
      this.#state = 'padding';
      this.#left = this.#paddingBytes;
    } else {
      this.#state = 'header';
    }
  }

  #endExtension(): void {
    const body = Buffer.concat(this.#extension);
    this.#extension = [];
    if (this.#extensionFlag === 'x') this.#locals = parsePax(body);
    else if (this.#extensionFlag === 'g') this.#globals = new Map([...this.#globals, ...parsePax(body)]);
    else {
      const nul = body.indexOf(0);
      const name = body.toString('latin1', 0, nul < 0 ? body.length : nul);
      if (this.#extensionFlag === 'L') this.#longName = name;
      else this.#longLink = name;
    }
  }

  #beginEntry(header: TarHeader): void {
    const entry = this.#entryOf(header);
    this.#locals = NO_RECORDS;
    this.#longName = undefined;
    this.#longLink = undefined;
    this.#entries += 1;
    this.#contentBytes += entry.sizeBytes;
    this.#checkEntryCount();
    if (this.#contentBytes > this.#limits.maxContentBytes) {
      throw tarRefusal('too_large', `the archive's files exceed the limit of ${this.#limits.maxContentBytes} bytes`);
    }
    this.#sink.entry(entry);
    this.#begin('body', entry.sizeBytes);
  }

  #checkEntryCount(): void {
    if (this.#entries > this.#limits.maxEntries) {
      throw tarRefusal('too_many_entries', `the archive has more than ${this.#limits.maxEntries} entries`);
    }
  }

  #record(key: string): Buffer | undefined {
    const value = this.#locals.get(key) ?? this.#globals.get(key);
    return value === undefined || value.length === 0 ? undefined : value;
  }

  #integer(key: string, fallback: number): number {
    const value = this.#record(key);
    return value === undefined ? fallback : parsePaxInteger(key, value);
  }

  #entryOf(header: TarHeader): TarEntry {
    if (header.typeFlag === 'S') throw tarRefusal('sparse', 'the archive holds a sparse file, which is not supported');
    const rawName = this.#record('path')?.toString('latin1') ?? this.#longName ?? header.name;
    let type = TYPES[header.typeFlag];
    if (type === undefined) {
      throw tarRefusal(
        'unsupported_type',
        `entry ${displayName(rawName)} has the type ${JSON.stringify(header.typeFlag)}, which is not supported`,
      );
    }
    // Before POSIX a directory was a file whose name ends in a slash.
    if (type === 'file' && rawName.endsWith('/')) type = 'directory';
    const path = normalisePath(rawName);
    if (path === '' && type !== 'directory') {
      throw tarRefusal('empty_name', `a ${type} in the archive has no name`);
    }
    const rawLink = this.#record('linkpath')?.toString('latin1') ?? this.#longLink ?? header.linkName;
    const time = this.#record('mtime');
    const mtime = time === undefined ? { seconds: header.mtimeSeconds, nanoseconds: 0 } : parsePaxTime(time);
    const hasRecords = this.#locals.size > 0 || this.#globals.size > 0;
    // Only files have content: a size on a link or a directory is a hint and nothing follows (as Go's archive/tar).
    const sizeBytes = this.#integer('size', header.sizeBytes);
    return {
      path,
      type,
      mode: header.mode,
      uid: checkedId(this.#integer('uid', header.uid), rawName),
      gid: checkedId(this.#integer('gid', header.gid), rawName),
      sizeBytes: type === 'file' ? sizeBytes : 0,
      mtimeSeconds: mtime.seconds,
      mtimeNanoseconds: mtime.nanoseconds,
      linkTarget: linkTarget(type, rawLink, rawName),
      deviceMajor: this.#integer('SCHILY.devmajor', header.deviceMajor),
      deviceMinor: this.#integer('SCHILY.devminor', header.deviceMinor),
      xattrs: hasRecords ? paxXattrs(new Map([...this.#globals, ...this.#locals])) : NO_XATTRS,
    };
  }
}

function checkedId(id: number, name: string): number {
  if (id < 0 || id > 0xffffffff) throw tarRefusal('bad_number', `entry ${displayName(name)} has the owner ${id}`);
  return id;
}

function linkTarget(type: TarEntryType, target: string, name: string): string {
  if (type === 'hardlink') {
    const path = normalisePath(target);
    if (path === '') throw tarRefusal('bad_link', `hard link ${displayName(name)} has no target`);
    return path;
  }
  if (type !== 'symlink') return '';
  if (target === '' || target.length >= PATH_MAX_BYTES) {
    throw tarRefusal('bad_link', `symbolic link ${displayName(name)} has a target of ${target.length} bytes`);
  }
  return target;
}
