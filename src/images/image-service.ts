import type { Readable } from 'node:stream';
import { BerthError, type Digest } from '#base';
import { imageDiskUsage, imageHistory, inspectImage, listImages, rootDiskOf } from './operations/catalog.ts';
import type {
  GarbageOptions,
  GarbageResult,
  HistoryEntry,
  ImageDetails,
  ImageDiskUsage,
  ImageSummary,
  ImportOptions,
  LoadOptions,
  LoadResult,
  PullOptions,
  PullResult,
  RemovedItem,
  RemoveOptions,
  RootDisk,
  SearchResult,
} from './operations/image-types.ts';
import { importImage } from './operations/import.ts';
import { loadImages } from './operations/load.ts';
import { pullImage } from './operations/pull.ts';
import { collectGarbage, removeImage } from './operations/remove.ts';
import { saveImages } from './operations/save.ts';
import { searchImages } from './operations/search.ts';
import type { RunConfig } from './registry/manifest.ts';
import { canonicalName, parseReference } from './registry/reference.ts';
import { ImageStore } from './store/image-store.ts';

/** How images come and go. */
export interface ImageTransfers {
  pull(name: string, options?: PullOptions): Promise<PullResult>;
  load(tar: AsyncIterable<Buffer>, options?: LoadOptions): Promise<LoadResult[]>;
  save(names: readonly string[]): Promise<Readable>;
  import(tar: AsyncIterable<Buffer>, options?: ImportOptions): Promise<Digest>;
  createFromTar(image: BuiltInImage): Promise<Digest>;
  search(term: string, options?: { readonly limit?: number; readonly signal?: AbortSignal }): Promise<SearchResult[]>;
}

/** What there is. A name may be `name:tag`, `name@digest`, an id or an unambiguous prefix of one. */
export interface ImageCatalog {
  list(): Promise<ImageSummary[]>;
  inspect(name: string): Promise<ImageDetails>;
  history(name: string): Promise<HistoryEntry[]>;
  rootDiskOf(name: string): Promise<RootDisk>;
  diskUsage(): Promise<ImageDiskUsage>;
}

/** Names given and taken, and what nobody names any more. */
export interface ImageNames {
  tag(source: string, target: string): Promise<void>;
  remove(name: string, options?: RemoveOptions): Promise<RemovedItem[]>;
  collectGarbage(options?: GarbageOptions): Promise<GarbageResult>;
}

export interface BuiltInImage {
  readonly tar: AsyncIterable<Buffer>;
  readonly reference: string;
  readonly config?: RunConfig;
  /** Milliseconds since the epoch. Default 0: the same tar and config always give the same image id. */
  readonly createdAtMs?: number;
  readonly signal?: AbortSignal;
}

/** The images of this host. One per root folder and process: the index is kept in memory. */
export class ImageService implements ImageTransfers, ImageCatalog, ImageNames {
  readonly #store: ImageStore;

  private constructor(store: ImageStore) {
    this.#store = store;
  }

  /** @throws images.index_damaged (data_loss). Leftovers of an earlier process are removed. */
  static async open(options: { readonly root: string }): Promise<ImageService> {
    return new ImageService(await ImageStore.open(options.root));
  }

  pull(name: string, options: PullOptions = {}): Promise<PullResult> {
    return pullImage(this.#store, name, options);
  }

  load(tar: AsyncIterable<Buffer>, options: LoadOptions = {}): Promise<LoadResult[]> {
    return loadImages(this.#store, tar, options);
  }

  save(names: readonly string[]): Promise<Readable> {
    return saveImages(this.#store, names);
  }

  import(tar: AsyncIterable<Buffer>, options: ImportOptions = {}): Promise<Digest> {
    return importImage(this.#store, tar, options);
  }

  createFromTar(image: BuiltInImage): Promise<Digest> {
    const { tar, ...options } = image;
    return importImage(this.#store, tar, { createdAtMs: 0, message: 'built in', ...options });
  }

  search(
    term: string,
    options: { readonly limit?: number; readonly signal?: AbortSignal } = {},
  ): Promise<SearchResult[]> {
    return searchImages(term, options);
  }

  list(): Promise<ImageSummary[]> {
    return listImages(this.#store);
  }

  inspect(name: string): Promise<ImageDetails> {
    return inspectImage(this.#store, name);
  }

  history(name: string): Promise<HistoryEntry[]> {
    return imageHistory(this.#store, name);
  }

  rootDiskOf(name: string): Promise<RootDisk> {
    return rootDiskOf(this.#store, name);
  }

  diskUsage(): Promise<ImageDiskUsage> {
    return imageDiskUsage(this.#store);
  }

  /** @throws images.not_found (not_found); reference.invalid (invalid). */
  async tag(source: string, target: string): Promise<void> {
    const reference = parseReference(target);
    if (reference.digest !== undefined) {
      throw new BerthError('invalid', 'reference.invalid', 'refusing to create a tag with a digest reference');
    }
    await this.#store.tag(source, canonicalName(reference));
  }

  remove(name: string, options: RemoveOptions = {}): Promise<RemovedItem[]> {
    return removeImage(this.#store, name, options);
  }

  async collectGarbage(options: GarbageOptions = {}): Promise<GarbageResult> {
    return collectGarbage(this.#store, await this.list(), options);
  }
}
