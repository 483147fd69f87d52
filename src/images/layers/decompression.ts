/** A compressed stream as plain bytes, with a guard against bombs. */
import { Readable } from 'node:stream';
import { constants, createGunzip, createZstdDecompress } from 'node:zlib';
import { BerthError, MIB, messageOf } from '#base';

export type Compression = 'gzip' | 'zstd' | 'none';

/** Large enough that a trip to zlib's thread is worth its cost. */
const OUTPUT_CHUNK_BYTES = 512 * 1024;
/** Decompressed bytes that may wait for the reader, so that decompression and hashing overlap. */
const OUTPUT_WAITING_BYTES = 2 * MIB;
/** Input pieces are gathered to this size before they go to the decompressor. */
const INPUT_CHUNK_BYTES = 256 * 1024;

/** gzip's own bound is about 1:1032; real layers beyond 1:100 are rare, so only large outputs are held to a ratio. */
const MAX_RATIO = 1024;
const RATIO_FREE_BYTES = 64 * MIB;

/** Decided by the first bytes, as Docker does, because media types are often wrong and bytes are not. */
export function compressionOf(head: Buffer): Compression {
  if (head.length >= 2 && head[0] === 0x1f && head[1] === 0x8b) return 'gzip';
  if (head.length >= 4 && head.readUInt32LE(0) === 0xfd2fb528) return 'zstd';
  // A zstd stream may begin with a skippable frame (RFC 8878, 3.1.2).
  if (head.length >= 4 && (head.readUInt32LE(0) & 0xfffffff0) >>> 0 === 0x184d2a50) return 'zstd';
  return 'none';
}

/** The stream's first bytes (up to `count`) and the whole stream again. */
export async function peek(
  source: AsyncIterable<Buffer>,
  count: number,
): Promise<{ head: Buffer; whole: AsyncGenerator<Buffer> }> {
  const iterator = source[Symbol.asyncIterator]();
  const first: Buffer[] = [];
  let bytes = 0;
  while (bytes < count) {
    const next = await iterator.next();
    if (next.done === true) break;
    first.push(next.value);
    bytes += next.value.length;
  }
  async function* whole(): AsyncGenerator<Buffer> {
    try {
      yield* first;
      for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
    } finally {
      await iterator.return?.();
    }
  }
  return { head: Buffer.concat(first).subarray(0, count), whole: whole() };
}

/**
 * The plain bytes of `source`, whatever its compression.
 *
 * @param maxBytes - an absolute limit on the plain bytes.
 * @throws layer.bomb (invalid) beyond `maxBytes`, or beyond 64 MiB when 1,024 times the input; layer.bad_compression
 *   (invalid) when the stream is damaged or ends early.
 */
export async function* decompressed(source: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<Buffer> {
  const { head, whole } = await peek(source, 4);
  const compression = compressionOf(head);
  let inputBytes = 0;
  let outputBytes = 0;
  let sourceFailure: { readonly error: unknown } | undefined;
  async function* counted(): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of compression === 'none' ? whole : gathered(whole)) {
        inputBytes += chunk.length;
        yield chunk;
      }
    } catch (error) {
      sourceFailure = { error };
      throw error;
    }
  }
  const plain = compression === 'none' ? counted() : throughZlib(counted(), compression);
  try {
    for await (const chunk of plain) {
      outputBytes += chunk.length;
      if (outputBytes > maxBytes) throw bomb(`more than ${maxBytes} bytes`);
      if (compression !== 'none' && outputBytes > RATIO_FREE_BYTES && outputBytes > inputBytes * MAX_RATIO) {
        throw bomb(`${outputBytes} bytes from ${inputBytes}`);
      }
      yield chunk;
    }
  } catch (error) {
    if (sourceFailure !== undefined) throw sourceFailure.error;
    if (error instanceof BerthError) throw error;
    throw new BerthError(
      'invalid',
      'layer.bad_compression',
      `the ${compression} stream is damaged: ${messageOf(error)}`,
      {
        cause: error,
      },
    );
  }
}

function bomb(what: string): BerthError {
  return new BerthError(
    'invalid',
    'layer.bomb',
    `the compressed stream unfolds to ${what}, which is refused as a bomb`,
  );
}

async function* throughZlib(source: AsyncIterable<Buffer>, compression: 'gzip' | 'zstd'): AsyncGenerator<Buffer> {
  const options = { chunkSize: OUTPUT_CHUNK_BYTES, readableHighWaterMark: OUTPUT_WAITING_BYTES };
  const decompressor =
    compression === 'gzip'
      ? createGunzip({ ...options, finishFlush: constants.Z_FINISH })
      : createZstdDecompress({ ...options });
  const input = Readable.from(source, { objectMode: false, highWaterMark: INPUT_CHUNK_BYTES });
  input.on('error', (error) => decompressor.destroy(error));
  input.pipe(decompressor);
  try {
    for await (const chunk of decompressor) yield chunk as Buffer;
  } finally {
    input.destroy();
    decompressor.destroy();
  }
}

/** The same bytes in pieces of about 256 KiB. */
async function* gathered(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of source) {
    parts.push(chunk);
    bytes += chunk.length;
    if (bytes < INPUT_CHUNK_BYTES) continue;
    yield parts.length === 1 ? chunk : Buffer.concat(parts, bytes);
    parts = [];
    bytes = 0;
  }
  if (bytes > 0) yield Buffer.concat(parts, bytes);
}
