/**
 * A sparse file as a stream of what it holds, the same bytes wherever its holes lie:
 *
 *     u64 offset │ u32 length │ data     … ascending, little-endian
 *
 * A run is as many adjacent blocks of 4 KiB that are not all zero as lie in one chunk of 1 MiB; the file's last block may be
 * shorter. So a file has one such stream only, and the digest of it is the file's.
 */
import { createHash } from 'node:crypto';
import { BerthError, MIB } from '#base';
import { files } from '#platform';
import { dataExtents } from './templates/index.ts';

const BLOCK_BYTES = 4096;
const CHUNK_BYTES = MIB;
const HEADER_BYTES = 12;
const ZEROS = Buffer.alloc(BLOCK_BYTES);

export interface PackedFile {
  readonly bytes: number;
  /** Of the stream. */
  readonly packedBytes: number;
  /** Of the stream, hexadecimal. */
  readonly sha256: string;
}

/** The stream, a chunk of the file at a time. @param program - berth-memory, which knows where the holes are. */
export async function* packBlocks(program: string, path: string): AsyncGenerator<Buffer> {
  const extents = await dataExtents(program, path);
  const handle = await files.open(path, 'r');
  try {
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    let next = 0;
    for (const { begin, end } of extents) {
      for (let chunk = Math.max(next, Math.floor(begin / CHUNK_BYTES)); chunk * CHUNK_BYTES < end; chunk += 1) {
        next = chunk + 1;
        const { bytesRead } = await handle.read(buffer, 0, CHUNK_BYTES, chunk * CHUNK_BYTES);
        const packed = packChunk(buffer.subarray(0, bytesRead), chunk * CHUNK_BYTES);
        if (packed.length > 0) yield packed;
      }
    }
  } finally {
    await handle.close();
  }
}

function packChunk(chunk: Buffer, position: number): Buffer {
  const parts: Buffer[] = [];
  const isZero = (at: number): boolean => {
    const block = chunk.subarray(at, at + BLOCK_BYTES);
    return block.equals(ZEROS.subarray(0, block.length));
  };
  for (let at = 0; at < chunk.length; ) {
    if (isZero(at)) {
      at += BLOCK_BYTES;
      continue;
    }
    let end = at + BLOCK_BYTES;
    while (end < chunk.length && !isZero(end)) end += BLOCK_BYTES;
    const data = chunk.subarray(at, Math.min(end, chunk.length));
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeBigUInt64LE(BigInt(position + at), 0);
    header.writeUInt32LE(data.length, 8);
    parts.push(header, data);
    at = end;
  }
  return Buffer.concat(parts);
}

export async function measureFile(program: string, path: string): Promise<PackedFile> {
  const { size } = await files.stat(path);
  const hash = createHash('sha256');
  let packedBytes = 0;
  for await (const packed of packBlocks(program, path)) {
    hash.update(packed);
    packedBytes += packed.length;
  }
  return { bytes: size, packedBytes, sha256: hash.digest('hex') };
}

/** Writes a stream back into a file of that many zeros. Any bytes may come: what is not such a stream is refused. */
export class BlockUnpacker {
  readonly #handle: files.FileHandle;
  readonly #bytes: number;
  readonly #name: string;
  #rest: Buffer = Buffer.alloc(0);
  #end = 0;

  /** @param name - of the file, for what is said of it. */
  constructor(handle: files.FileHandle, bytes: number, name: string) {
    this.#handle = handle;
    this.#bytes = bytes;
    this.#name = name;
  }

  /** @throws checkpoint.damaged (data_loss) */
  async take(chunk: Buffer): Promise<void> {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    for (;;) {
      if (this.#rest.length < HEADER_BYTES) return;
      const offset = Number(this.#rest.readBigUInt64LE(0));
      const length = this.#rest.readUInt32LE(8);
      this.#check(offset, length);
      if (this.#rest.length < HEADER_BYTES + length) return;
      await this.#handle.write(this.#rest, HEADER_BYTES, length, offset);
      this.#end = offset + length;
      this.#rest = this.#rest.subarray(HEADER_BYTES + length);
    }
  }

  /** @throws checkpoint.damaged (data_loss) */
  finish(): void {
    if (this.#rest.length > 0) throw this.#damaged('it ends inside a run');
  }

  #check(offset: number, length: number): void {
    const end = offset + length;
    if (length === 0 || offset < this.#end || end > this.#bytes || offset % BLOCK_BYTES !== 0)
      throw this.#damaged(`a run of ${length} bytes at ${offset} does not fit`);
    if (Math.floor(offset / CHUNK_BYTES) !== Math.floor((end - 1) / CHUNK_BYTES))
      throw this.#damaged(`a run of ${length} bytes at ${offset} is too long`);
  }

  #damaged(why: string): BerthError {
    return new BerthError('data_loss', 'checkpoint.damaged', `${this.#name} is damaged: ${why}`);
  }
}
