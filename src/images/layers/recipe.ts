/**
 * A layer's recipe: how to make its original tar again, byte for byte, from its EROFS image.
 *
 *     "BERTHRC1" · zstd(operations) · zstd(body offsets) · u64 operations' length · u64 offsets' length · "BERTHRC1"
 *
 * Operations: 1 RAW varint length, bytes; 2 BODY varint length: that many bytes of the image, at the next of the
 * offsets (u64 little-endian each); 0 END. Raw bytes are the tar's headers, padding and end mark, so a recipe is small (headers
 * compress about 20:1). The idea is tar-split's, which Docker uses for the same purpose.
 */
import { once } from 'node:events';
import { promisify } from 'node:util';
import {
  constants,
  createZstdCompress,
  createZstdDecompress,
  type ZstdCompress,
  zstdCompress,
  zstdDecompress,
} from 'node:zlib';
import { BerthError } from '#base';
import { type InputFile, readExactly } from '../erofs/erofs-reader.ts';

const MAGIC = Buffer.from('BERTHRC1');
const OP_END = 0;
const OP_RAW = 1;
const OP_BODY = 2;
/** Raw bytes collected before they go to the compressor. */
const BUFFER_BYTES = 128 * 1024;
const READ_BYTES = 512 * 1024;
/** Offsets of two million files, twice over: more is not a recipe that berth wrote. */
const OFFSETS_MAX_BYTES = 64 * 1024 * 1024;

const compressAll = promisify(zstdCompress);
const decompressAll = promisify(zstdDecompress);

/** Where a recipe is written; the subset of a file handle that it needs. */
export interface RecipeFile {
  write(buffer: Uint8Array, offset: number, length: number): Promise<{ bytesWritten: number }>;
}

export class RecipeWriter {
  readonly #file: RecipeFile;
  readonly #compressor: ZstdCompress;
  readonly #writing: Promise<void>;
  #failure: { readonly error: unknown } | undefined;
  #buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  #used = 0;
  /** The RAW operation being collected. */
  #raw: Buffer[] = [];
  #rawBytes = 0;
  #operationsBytes = 0;
  #needsDrain = false;

  constructor(file: RecipeFile) {
    this.#file = file;
    this.#compressor = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 3 } });
    this.#writing = this.#write().catch((error: unknown) => {
      this.#failure = { error };
    });
  }

  raw(bytes: Buffer): void {
    // A copy: the tar reader reuses its header buffer, and chunks must not be kept alive by a few bytes of them.
    this.#raw.push(Buffer.from(bytes));
    this.#rawBytes += bytes.length;
    if (this.#rawBytes >= BUFFER_BYTES) this.#closeRaw();
  }

  body(sizeBytes: number): void {
    if (sizeBytes === 0) return;
    this.#closeRaw();
    this.#put(Buffer.concat([Buffer.from([OP_BODY]), varint(sizeBytes)]));
  }

  async drain(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    if (!this.#needsDrain) return;
    this.#needsDrain = false;
    await Promise.race([once(this.#compressor, 'drain'), this.#writing]);
  }

  /** @param bodyOffsets - for each BODY, in order, where its bytes lie in the image. Returns the recipe's size. */
  async finish(bodyOffsets: readonly number[]): Promise<number> {
    this.#closeRaw();
    this.#put(Buffer.from([OP_END]));
    this.#flush();
    this.#compressor.end();
    await this.#writing;
    if (this.#failure !== undefined) throw this.#failure.error;
    const table = Buffer.alloc(bodyOffsets.length * 8);
    bodyOffsets.forEach((offset, index) => {
      table.writeBigUInt64LE(BigInt(offset), index * 8);
    });
    const offsets = await compressAll(table);
    const trailer = Buffer.alloc(24);
    trailer.writeBigUInt64LE(BigInt(this.#operationsBytes), 0);
    trailer.writeBigUInt64LE(BigInt(offsets.length), 8);
    MAGIC.copy(trailer, 16);
    await this.#writeAll(Buffer.concat([offsets, trailer]));
    return MAGIC.length + this.#operationsBytes + offsets.length + trailer.length;
  }

  /** Ends the compressor of a recipe that will not be finished. */
  abandon(): void {
    this.#compressor.destroy();
  }

  #closeRaw(): void {
    if (this.#rawBytes === 0) return;
    this.#put(Buffer.concat([Buffer.from([OP_RAW]), varint(this.#rawBytes)]));
    for (const bytes of this.#raw) this.#put(bytes);
    this.#raw = [];
    this.#rawBytes = 0;
  }

  #put(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      const taken = bytes.copy(this.#buffer, this.#used, at);
      this.#used += taken;
      at += taken;
      if (this.#used === BUFFER_BYTES) this.#flush();
    }
  }

  #flush(): void {
    if (this.#used === 0) return;
    if (!this.#compressor.write(this.#buffer.subarray(0, this.#used))) this.#needsDrain = true;
    this.#buffer = Buffer.allocUnsafe(BUFFER_BYTES);
    this.#used = 0;
  }

  async #write(): Promise<void> {
    await this.#writeAll(MAGIC);
    for await (const chunk of this.#compressor) {
      const bytes = chunk as Buffer;
      await this.#writeAll(bytes);
      this.#operationsBytes += bytes.length;
    }
  }

  async #writeAll(bytes: Buffer): Promise<void> {
    let done = 0;
    while (done < bytes.length) {
      done += (await this.#file.write(bytes, done, bytes.length - done)).bytesWritten;
    }
  }
}

export interface ReplaySource {
  readonly recipe: InputFile;
  readonly recipeBytes: number;
  readonly image: InputFile;
  readonly imageBytes: number;
}

/**
 * The original tar, in pieces of at most 512 KiB.
 *
 * @throws recipe.damaged (data_loss) when the recipe does not fit its image.
 */
export async function* replayRecipe(source: ReplaySource): AsyncGenerator<Buffer> {
  const { operationsBytes, offsets } = await readTrailer(source);
  let body = 0;
  const operations = new ByteCursor(decompressedOperations(source.recipe, operationsBytes));
  for (;;) {
    const operation = await operations.byte();
    if (operation === OP_END) return;
    const length = await operations.varint();
    if (operation === OP_RAW) yield* operations.bytes(length);
    else if (operation === OP_BODY) {
      if (body * 8 >= offsets.length) throw damagedRecipe('it names more files than it has places for');
      yield* imageBytes(source, Number(offsets.readBigUInt64LE(body * 8)), length);
      body += 1;
    } else throw damagedRecipe(`it has the unknown operation ${operation}`);
  }
}

async function readTrailer(source: ReplaySource): Promise<{ operationsBytes: number; offsets: Buffer }> {
  if (source.recipeBytes < MAGIC.length + 24) throw damagedRecipe('it is too short');
  const trailer = Buffer.alloc(24);
  await readExactly(source.recipe, trailer, source.recipeBytes - 24);
  const operationsBytes = Number(trailer.readBigUInt64LE(0));
  const offsetsBytes = Number(trailer.readBigUInt64LE(8));
  const isWhole = MAGIC.length + operationsBytes + offsetsBytes + 24 === source.recipeBytes;
  if (!isWhole || !trailer.subarray(16).equals(MAGIC)) throw damagedRecipe('its end mark is wrong');
  const compressed = Buffer.alloc(offsetsBytes);
  await readExactly(source.recipe, compressed, MAGIC.length + operationsBytes);
  return { operationsBytes, offsets: await decompressAll(compressed, { maxOutputLength: OFFSETS_MAX_BYTES }) };
}

async function* imageBytes(source: ReplaySource, offset: number, length: number): AsyncGenerator<Buffer> {
  if (offset + length > source.imageBytes) throw damagedRecipe('it points outside the image');
  for (let at = 0; at < length; at += READ_BYTES) {
    const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, length - at));
    await readExactly(source.image, buffer, offset + at);
    yield buffer;
  }
}

function decompressedOperations(recipe: InputFile, length: number): AsyncIterable<Buffer> {
  const decompressor = createZstdDecompress({ chunkSize: BUFFER_BYTES });
  const feed = async (): Promise<void> => {
    for (let at = 0; at < length; at += READ_BYTES) {
      const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, length - at));
      await readExactly(recipe, buffer, MAGIC.length + at);
      if (!decompressor.write(buffer)) await once(decompressor, 'drain');
    }
    decompressor.end();
  };
  feed().catch((error: unknown) => decompressor.destroy(error instanceof Error ? error : new Error(String(error))));
  return decompressor;
}

class ByteCursor {
  readonly #chunks: AsyncIterator<Buffer>;
  #chunk: Buffer = Buffer.alloc(0);
  #at = 0;

  constructor(chunks: AsyncIterable<Buffer>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  async byte(): Promise<number> {
    await this.#fill();
    const value = this.#chunk.readUInt8(this.#at);
    this.#at += 1;
    return value;
  }

  async varint(): Promise<number> {
    let value = 0;
    for (let scale = 1; scale <= 2 ** 49; scale *= 128) {
      const byte = await this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw damagedRecipe('it has a length that is too large');
  }

  async *bytes(length: number): AsyncGenerator<Buffer> {
    let left = length;
    while (left > 0) {
      await this.#fill();
      const piece = this.#chunk.subarray(this.#at, this.#at + left);
      this.#at += piece.length;
      left -= piece.length;
      yield piece;
    }
  }

  async #fill(): Promise<void> {
    while (this.#at >= this.#chunk.length) {
      const next = await this.#chunks.next();
      if (next.done === true) throw damagedRecipe('it ends early');
      this.#chunk = next.value;
      this.#at = 0;
    }
  }
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 128) {
    bytes.push((rest % 128) | 0x80);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}

function damagedRecipe(what: string): BerthError {
  return new BerthError('data_loss', 'recipe.damaged', `the layer's recipe is damaged: ${what}`, {
    hint: 'remove the image and pull it again',
  });
}
