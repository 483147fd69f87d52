/**
 * Files of images, named by what they contain:
 *
 *     <root>/index.json                     what there is (image-index.ts)
 *     <root>/blobs/sha256/<hex>             configs and manifests, private
 *     <root>/layers/sha256/<hex>.erofs      layers by diffID, readable by unprivileged QEMU users
 *     <root>/layers/sha256/<hex>.recipe     how to make the layer's tar again
 *
 * Compressed layer blobs are not kept: `save` makes the tar again from the recipe. A file is there whole or not at all;
 * `*.tmp` files are of this process, or leftovers that go at the next open. A *lease* holds content that nothing
 * refers to yet.
 */
import { join } from 'node:path';
import { BerthError, type Digest, errnoOf } from '#base';
import { files } from '#platform';
import {
  type ConvertedLayer,
  convertLayer,
  digestOfBytes,
  type LayerPaths,
  type LayerRequest,
  translate,
} from '../layers/layer-conversion.ts';
import { replayRecipe } from '../layers/recipe.ts';
import type { IndexState, LayerRecord } from './image-index.ts';

const ASIDE = /\.tmp$/;
const CONTENT = /^([0-9a-f]{64})(\.erofs|\.recipe)?$/;

export interface SweepResult {
  readonly removed: readonly Digest[];
  readonly freedBytes: number;
}

/** Holds what it claims until it is released. */
export interface Lease {
  claim(digest: Digest): void;
  release(): void;
}

export class ContentStore {
  readonly #blobs: string;
  readonly #layers: string;
  readonly #leases = new Set<Set<Digest>>();
  /** Layers on disk by diffID: those of the index and those converted since, which no image names yet. */
  readonly #known = new Map<Digest, LayerRecord>();

  private constructor(root: string) {
    this.#blobs = join(root, 'blobs', 'sha256');
    this.#layers = join(root, 'layers', 'sha256');
  }

  /** Makes the folders and removes what an earlier process left unfinished or unnamed. */
  static async open(root: string, state: IndexState): Promise<ContentStore> {
    const store = new ContentStore(root);
    await files.mkdir(root, { recursive: true });
    await files.chmod(root, 0o755);
    for (const [folder, mode] of [
      ['blobs', 0o700],
      ['blobs/sha256', 0o700],
      ['layers', 0o755],
      ['layers/sha256', 0o755],
    ] as const) {
      await files.mkdir(join(root, folder), { recursive: true });
      await files.chmod(join(root, folder), mode);
    }
    for (const folder of [root, store.#blobs, store.#layers]) {
      for (const name of await files.readdir(folder)) {
        if (ASIDE.test(name)) await files.rm(join(folder, name), { force: true });
      }
    }
    for (const layer of state.layers.values()) {
      if (await files.exists(store.layerPaths(layer.diffId).image)) store.#known.set(layer.diffId, layer);
    }
    await store.sweep(state);
    return store;
  }

  layerPaths(diffId: Digest): LayerPaths {
    const base = join(this.#layers, diffId.slice(7));
    return { image: `${base}.erofs`, recipe: `${base}.recipe` };
  }

  layer(diffId: Digest): LayerRecord | undefined {
    return this.#known.get(diffId);
  }

  lease(): Lease {
    const claimed = new Set<Digest>();
    this.#leases.add(claimed);
    return { claim: (digest) => claimed.add(digest), release: () => this.#leases.delete(claimed) };
  }

  /** Converts a layer and claims it for `lease`. */
  async addLayer(request: LayerRequest, lease: Lease): Promise<ConvertedLayer> {
    const aside = files.asideName(join(this.#layers, 'layer'));
    const layer = await convertLayer(request, {
      aside: { image: aside, recipe: aside.replace(ASIDE, '.recipe.tmp') },
      final: (diffId) => {
        lease.claim(diffId);
        return this.layerPaths(diffId);
      },
    });
    const { diffId, tarBytes, contentBytes, imageBytes, recipeBytes } = layer;
    const source = request.expected === undefined ? {} : { blobDigest: layer.blobDigest, blobBytes: layer.blobBytes };
    this.#known.set(diffId, { diffId, tarBytes, contentBytes, imageBytes, recipeBytes, ...source });
    return layer;
  }

  /** @throws images.disk_full (exhausted). */
  async addBlob(bytes: Uint8Array, lease: Lease): Promise<Digest> {
    const digest = digestOfBytes(bytes);
    lease.claim(digest);
    const path = join(this.#blobs, digest.slice(7));
    if (await files.exists(path)) return digest;
    try {
      await files.writeFileAtomic(path, bytes, 0o600);
    } catch (error) {
      throw translate(error);
    }
    return digest;
  }

  /** @throws images.blob_missing, images.blob_damaged (data_loss). */
  async readBlob(digest: Digest): Promise<Buffer> {
    let bytes: Buffer;
    try {
      bytes = await files.readFile(join(this.#blobs, digest.slice(7)));
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
      throw new BerthError('data_loss', 'images.blob_missing', `blob ${digest} is gone from the image store`, {
        hint: 'remove the image and pull it again',
      });
    }
    if (digestOfBytes(bytes) === digest) return bytes;
    throw new BerthError('data_loss', 'images.blob_damaged', `blob ${digest} does not have its digest any more`, {
      hint: 'remove the image and pull it again',
    });
  }

  /** The layer's original tar. @throws recipe.damaged, erofs.damaged (data_loss). */
  async *layerTar(diffId: Digest): AsyncGenerator<Buffer> {
    const paths = this.layerPaths(diffId);
    const image = await files.open(paths.image, 'r');
    try {
      const recipe = await files.open(paths.recipe, 'r');
      try {
        const [imageBytes, recipeBytes] = [(await image.stat()).size, (await recipe.stat()).size];
        yield* replayRecipe({ image, imageBytes, recipe, recipeBytes });
      } finally {
        await recipe.close();
      }
    } finally {
      await image.close();
    }
  }

  /** Removes every file that neither `state` nor a lease names. Run it inside the index's `exclusively`. */
  async sweep(state: IndexState): Promise<SweepResult> {
    const wanted = new Set<string>();
    for (const image of state.images.values()) {
      for (const digest of [image.id, image.manifest, ...image.layers])
        if (digest !== undefined) wanted.add(digest.slice(7));
    }
    const isHeld = (hex: string): boolean =>
      wanted.has(hex) || [...this.#leases].some((claimed) => claimed.has(`sha256:${hex}` as Digest));
    const removed = new Set<Digest>();
    let freedBytes = 0;
    for (const folder of [this.#blobs, this.#layers]) {
      for (const name of await files.readdir(folder)) {
        const hex = CONTENT.exec(name)?.[1];
        if (hex === undefined) continue;
        const path = join(folder, name);
        const digest = `sha256:${hex}` as Digest;
        const { size } = await files.stat(path);
        // Nothing may come between this question and the removal: a pull claims first and then looks what is known.
        if (isHeld(hex)) continue;
        if (folder === this.#layers) this.#known.delete(digest);
        await files.unlink(path);
        freedBytes += size;
        removed.add(digest);
      }
    }
    return { removed: [...removed], freedBytes };
  }
}
