/**
 * A checkpoint as one file: a tar archive (ustar) of four members in this order.
 *
 *     manifest.json │ state │ memory.blocks │ data.blocks
 *
 * `sha256sum` of a member is what the manifest says of it. Sparse files are streams of blocks (checkpoint-blocks.ts). An
 * archive from elsewhere is believed nothing: names, order, sizes and digests are checked, and it names no path.
 */
import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { BerthError, MIB } from '#base';
import { files } from '#platform';
import { BlockUnpacker, packBlocks } from './checkpoint-blocks.ts';
import { type CheckpointManifest, parseManifest } from './checkpoint-manifest.ts';

const TAR_BLOCK = 512;
const MAX_MANIFEST_BYTES = MIB;
/** A state has 200 KiB; with the largest queues of all devices a few MiB. */
const MAX_STATE_BYTES = 64 * MIB;
/** The largest size eleven octal digits hold. */
const MAX_OCTAL = 8 ** 11 - 1;

/** The archive of the checkpoint in `folder`, as it lies there. */
export async function* packCheckpoint(
  program: string,
  folder: string,
  manifest: CheckpointManifest,
  manifestText: string,
): AsyncGenerator<Buffer> {
  const { memory, data } = manifest.files;
  yield* member('manifest.json', Buffer.from(manifestText));
  yield* member('state', await files.readFile(`${folder}/state`));
  for (const [name, file, facts] of [
    ['memory.blocks', 'memory', memory],
    ['data.blocks', 'data.img', data],
  ] as const) {
    yield tarHeader(name, facts.packedBytes);
    yield* packBlocks(program, `${folder}/${file}`);
    yield padding(facts.packedBytes);
  }
  yield Buffer.alloc(2 * TAR_BLOCK);
}

function* member(name: string, content: Buffer): Generator<Buffer> {
  yield tarHeader(name, content.length);
  yield content;
  yield padding(content.length);
}

function padding(bytes: number): Buffer {
  return Buffer.alloc((TAR_BLOCK - (bytes % TAR_BLOCK)) % TAR_BLOCK);
}

/** @source POSIX.1-2017, pax: "ustar Interchange Format"; sizes beyond 8 GiB in base 256, as GNU tar writes them. */
function tarHeader(name: string, bytes: number): Buffer {
  const block = Buffer.alloc(TAR_BLOCK);
  block.write(name, 0, 100, 'latin1');
  block.write('0000600\0' + '0000000\0' + '0000000\0', 100, 'latin1');
  if (bytes <= MAX_OCTAL) block.write(`${bytes.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  else {
    block[124] = 0x80;
    block.writeBigUInt64BE(BigInt(bytes), 128);
  }
  block.write('00000000000\0        0', 136, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  block.write(`${checksum(block).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

function checksum(block: Buffer): number {
  let sum = 8 * 0x20;
  for (const [at, byte] of block.entries()) if (at < 148 || at >= 156) sum += byte;
  return sum;
}

/** @throws checkpoint.damaged (data_loss) */
function parseHeader(block: Buffer, expected: string): number {
  const field = (from: number, length: number): string => {
    const text = block.toString('latin1', from, from + length);
    const end = text.indexOf('\0');
    return (end < 0 ? text : text.slice(0, end)).trim();
  };
  const name = field(0, 100);
  const isPlain = block.toString('latin1', 257, 262) === 'ustar' && (block[156] === 0x30 || block[156] === 0);
  if (!isPlain || Number.parseInt(field(148, 8), 8) !== checksum(block)) throw damaged('it is not such an archive');
  if (name !== expected) throw damaged(`${JSON.stringify(name.slice(0, 40))} stands where ${expected} was due`);
  const bytes =
    block[124] === 0x80
      ? Number(block.readBigUInt64BE(128))
      : /^[0-7]+$/.test(field(124, 12))
        ? Number.parseInt(field(124, 12), 8)
        : -1;
  if (!Number.isSafeInteger(bytes) || bytes < 0) throw damaged(`the size of ${expected} is no number`);
  return bytes;
}

/**
 * Reads an archive into `folder`, which is there and empty: `state`, `memory`, `data.img`, and last `manifest.json`.
 *
 * @throws checkpoint.damaged (data_loss), checkpoint.version (unsupported); what the disk says.
 */
export async function unpackCheckpoint(
  input: Readable,
  folder: string,
  accept: (manifest: CheckpointManifest) => Promise<void>,
): Promise<CheckpointManifest> {
  const bytes = new ByteQueue(input);
  const text = await bytes.member('manifest.json', MAX_MANIFEST_BYTES);
  const manifest = parseManifest(text.toString('utf8'));
  checkSizes(manifest);
  await accept(manifest);
  const { state, memory, data } = manifest.files;
  const content = await bytes.member('state', MAX_STATE_BYTES);
  const digest = createHash('sha256').update(content).digest('hex');
  if (content.length !== state.bytes || digest !== state.sha256) throw damaged('state is not what the manifest says');
  await files.writeFileAtomic(`${folder}/state`, content, 0o600);
  for (const [name, file, facts] of [
    ['memory.blocks', 'memory', memory],
    ['data.blocks', 'data.img', data],
  ] as const) {
    const length = parseHeader(await bytes.read(TAR_BLOCK), name);
    if (length !== facts.packedBytes) throw damaged(`${name} has ${length} bytes, not ${facts.packedBytes}`);
    await unpackFile(bytes, `${folder}/${file}`, name, facts);
    await bytes.read(padding(length).length);
  }
  await files.writeFileAtomic(`${folder}/manifest.json`, text, 0o600);
  return manifest;
}

function checkSizes({ spec, files: { memory, data } }: CheckpointManifest): void {
  if (memory.bytes !== Math.ceil(spec.memoryBytes / MIB) * MIB)
    throw damaged('its memory has another size than its VM');
  if (data.bytes !== spec.diskBytes) throw damaged('its disk has another size than its VM');
}

async function unpackFile(
  bytes: ByteQueue,
  path: string,
  name: string,
  facts: CheckpointManifest['files']['memory'],
): Promise<void> {
  const hash = createHash('sha256');
  const handle = await files.open(path, 'wx', 0o600);
  try {
    await handle.truncate(facts.bytes);
    const unpacker = new BlockUnpacker(handle, facts.bytes, name);
    for await (const chunk of bytes.take(facts.packedBytes)) {
      hash.update(chunk);
      await unpacker.take(chunk);
    }
    unpacker.finish();
    if (hash.digest('hex') !== facts.sha256) throw damaged(`${name} is not what the manifest says`);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function damaged(why: string): BerthError {
  return new BerthError('data_loss', 'checkpoint.damaged', `the archive of a checkpoint is damaged: ${why}`);
}

/** A stream read in pieces of wanted length. */
class ByteQueue {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(input: Readable) {
    this.#chunks = input[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  /** @throws checkpoint.damaged (data_loss) when the stream ends before. */
  async *take(length: number): AsyncGenerator<Buffer> {
    for (let left = length; left > 0; ) {
      if (this.#rest.length === 0) {
        const next = await this.#chunks.next();
        if (next.done === true) throw damaged('it is cut short');
        this.#rest = next.value;
      }
      const part = this.#rest.subarray(0, left);
      this.#rest = this.#rest.subarray(part.length);
      left -= part.length;
      if (part.length > 0) yield part;
    }
  }

  async read(length: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for await (const part of this.take(length)) parts.push(part);
    return Buffer.concat(parts);
  }

  async member(name: string, most: number): Promise<Buffer> {
    const length = parseHeader(await this.read(TAR_BLOCK), name);
    if (length > most) throw damaged(`${name} has ${length} bytes; at most ${most} are read`);
    const content = await this.read(length);
    await this.read(padding(length).length);
    return content;
  }
}
