/**
 * One layer blob into one EROFS image and its recipe:
 *
 *     blob ─▶ digest + size ─▶ decompress ─▶ diffID ─▶ tar ─┬▶ EROFS image  (aside file)
 *                                                            └▶ recipe       (aside file)
 *
 * Nothing is renamed into place before every digest agreed and both files are on the disk; a failure of any kind
 * leaves nothing behind. Backpressure reaches from the disk to the socket.
 */
import { createHash, type Hash } from 'node:crypto';
import { dirname } from 'node:path';
import { BerthError, type Digest, errnoOf, parseDigest } from '#base';
import { files } from '#platform';
import { BlockOutput } from '../erofs/block-output.ts';
import { ErofsWriter } from '../erofs/erofs-writer.ts';
import type { TarEntry } from '../tar/tar-entry.ts';
import { DEFAULT_TAR_LIMITS, type TarLimits, TarReader } from '../tar/tar-reader.ts';
import { decompressed } from './decompression.ts';
import { RecipeWriter } from './recipe.ts';

export interface LayerRequest {
  readonly source: AsyncIterable<Buffer>;
  /** Of the blob as it arrives; absent when nobody vouches for it (load, import). */
  readonly expected?: { readonly digest: Digest; readonly sizeBytes: number };
  /** Of the plain tar. */
  readonly expectedDiffId?: Digest;
  readonly limits?: LayerLimits;
  readonly signal?: AbortSignal;
  /** Blob bytes taken so far. */
  readonly onProgress?: (bytes: number) => void;
}

export interface LayerLimits extends TarLimits {
  /** Bytes of the plain tar. */
  readonly maxTarBytes: number;
}

/** 64 GiB: the largest public images are near 20 GiB, and a disk fills long before a typing error of a limit matters. */
export const DEFAULT_LAYER_LIMITS: LayerLimits = { ...DEFAULT_TAR_LIMITS, maxTarBytes: 64 * 1024 ** 3 };

export interface ConvertedLayer {
  readonly diffId: Digest;
  readonly blobDigest: Digest;
  readonly blobBytes: number;
  readonly tarBytes: number;
  /** Bytes of all files' contents: what Docker calls the layer's size. */
  readonly contentBytes: number;
  readonly imageBytes: number;
  readonly recipeBytes: number;
  readonly entryCount: number;
}

export interface LayerPaths {
  readonly image: string;
  readonly recipe: string;
}

/** Where one conversion writes until its diffID is known, and after. */
export interface LayerDestination {
  readonly aside: LayerPaths;
  final(diffId: Digest): LayerPaths;
}

/**
 * @throws layer.digest_mismatch, layer.size_mismatch, layer.diff_id_mismatch (data_loss); layer.bomb,
 *   layer.bad_compression and tar.* (invalid); images.disk_full (exhausted); images.cancelled (cancelled).
 */
export async function convertLayer(request: LayerRequest, destination: LayerDestination): Promise<ConvertedLayer> {
  const { aside } = destination;
  try {
    const image = await files.open(aside.image, 'wx', 0o644);
    try {
      const recipe = await files.open(aside.recipe, 'wx', 0o600);
      try {
        const layer = await stream(request, image, recipe);
        await Promise.all([image.sync(), recipe.sync()]);
        // The process's umask must not keep unprivileged QEMU users out.
        await image.chmod(0o644);
        const final = destination.final(layer.diffId);
        // The recipe first: a layer is there once its image is there.
        await files.rename(aside.recipe, final.recipe);
        await files.rename(aside.image, final.image);
        await files.syncFolder(dirname(final.image));
        return layer;
      } finally {
        await recipe.close();
      }
    } finally {
      await image.close();
    }
  } catch (error) {
    await files.rm(aside.image, { force: true });
    await files.rm(aside.recipe, { force: true });
    throw translate(error, request.signal);
  }
}

async function stream(
  request: LayerRequest,
  image: files.FileHandle,
  recipe: files.FileHandle,
): Promise<ConvertedLayer> {
  const limits = request.limits ?? DEFAULT_LAYER_LIMITS;
  const blob = new VerifiedBlob(request);
  const diffHash = createHash('sha256');
  const output = new BlockOutput(image);
  const recipeWriter = new RecipeWriter(recipe);
  try {
    const erofs = new ErofsWriter(output);
    const reader = new TarReader(
      {
        raw: (bytes) => recipeWriter.raw(bytes),
        entry: (entry: TarEntry) => {
          erofs.entry(entry);
          recipeWriter.body(entry.sizeBytes);
        },
        body: (bytes) => erofs.body(bytes),
        entryEnd: () => erofs.entryEnd(),
      },
      limits,
    );
    let tarBytes = 0;
    for await (const chunk of decompressed(blob.bytes(), limits.maxTarBytes)) {
      request.signal?.throwIfAborted();
      diffHash.update(chunk);
      tarBytes += chunk.length;
      reader.push(chunk);
      await output.drain();
      await recipeWriter.drain();
    }
    const blobDigest = blob.finish();
    const diffId = digestOf(diffHash);
    if (request.expectedDiffId !== undefined && request.expectedDiffId !== diffId) {
      throw new BerthError(
        'data_loss',
        'layer.diff_id_mismatch',
        `the layer's content has the digest ${diffId}, but the image's config names ${request.expectedDiffId}`,
      );
    }
    reader.end();
    const summary = await erofs.finish();
    const recipeBytes = await recipeWriter.finish(summary.bodyOffsets);
    return {
      diffId,
      blobDigest,
      blobBytes: blob.receivedBytes,
      tarBytes,
      contentBytes: reader.contentBytes,
      imageBytes: summary.imageBytes,
      recipeBytes,
      entryCount: reader.entryCount,
    };
  } finally {
    recipeWriter.abandon();
    // Buffers still on their way would otherwise be written to a closed file.
    await output.flush().catch(() => {});
  }
}

/** The blob's bytes, counted and hashed on their way. */
class VerifiedBlob {
  readonly #request: LayerRequest;
  readonly #hash = createHash('sha256');
  receivedBytes = 0;

  constructor(request: LayerRequest) {
    this.#request = request;
  }

  async *bytes(): AsyncGenerator<Buffer> {
    const { source, expected, onProgress } = this.#request;
    for await (const chunk of source) {
      this.receivedBytes += chunk.length;
      if (expected !== undefined && this.receivedBytes > expected.sizeBytes) {
        throw new BerthError(
          'data_loss',
          'layer.size_mismatch',
          `blob ${expected.digest} is larger than the ${expected.sizeBytes} bytes its manifest names`,
        );
      }
      this.#hash.update(chunk);
      onProgress?.(this.receivedBytes);
      yield chunk;
    }
    this.#check();
  }

  finish(): Digest {
    return this.#digest ?? this.#check();
  }

  #digest: Digest | undefined;

  #check(): Digest {
    const { expected } = this.#request;
    if (expected !== undefined && this.receivedBytes !== expected.sizeBytes) {
      throw new BerthError(
        'data_loss',
        'layer.size_mismatch',
        `blob ${expected.digest} ended after ${this.receivedBytes} of ${expected.sizeBytes} bytes`,
      );
    }
    this.#digest = digestOf(this.#hash);
    if (expected !== undefined && expected.digest !== this.#digest) {
      throw new BerthError(
        'data_loss',
        'layer.digest_mismatch',
        `filesystem layer verification failed for digest ${expected.digest}: the content's digest is ${this.#digest}`,
      );
    }
    return this.#digest;
  }
}

export function digestOf(hash: Hash): Digest {
  return parseDigest(`sha256:${hash.digest('hex')}`);
}

export function digestOfBytes(bytes: Uint8Array): Digest {
  return digestOf(createHash('sha256').update(bytes));
}

/** Foreign failures of a store operation, once: no room and cancelled are told apart from the rest. */
export function translate(error: unknown, signal?: AbortSignal): unknown {
  if (signal?.aborted === true) {
    return new BerthError('cancelled', 'images.cancelled', 'the operation was cancelled', { cause: error });
  }
  const errno = errnoOf(error);
  if (errno === 'ENOSPC' || errno === 'EDQUOT') {
    return new BerthError('exhausted', 'images.disk_full', 'no space left on the disk that holds the images', {
      hint: 'remove images that are not needed ("berth image prune"), or make the disk larger',
      cause: error,
    });
  }
  return error;
}
