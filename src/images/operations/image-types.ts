import type { Digest } from '#base';
import type { ImageConfig } from '../registry/manifest.ts';
import type { RegistryCredentials } from '../registry/registry-auth.ts';

/** One step of a pull, load or push, with Docker's words, so that the Docker door can print Docker's JSON stream. */
export interface ProgressEvent {
  /** A layer's short id, or the tag in "Pulling from …". */
  readonly id?: string;
  readonly status: string;
  readonly progressDetail?: { readonly current: number; readonly total: number };
}

export type ProgressListener = (event: ProgressEvent) => void;

export interface PullOptions {
  /** `linux/arm64`; the host's when absent. */
  readonly platform?: string;
  readonly credentials?: RegistryCredentials;
  readonly signal?: AbortSignal;
  readonly onProgress?: ProgressListener;
}

export interface PullResult {
  readonly id: Digest;
  /** Of the manifest or index that the name pointed to. */
  readonly digest: Digest;
  /** False when the name already pointed to this image. */
  readonly isNew: boolean;
}

export interface LoadOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: ProgressListener;
}

export interface LoadResult {
  readonly id: Digest;
  /** Familiar names that now point to the image; empty when the archive gives none. */
  readonly references: readonly string[];
}

export interface ImportOptions {
  /** `name:tag`; an image without a name when absent. */
  readonly reference?: string;
  /** Dockerfile instructions: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR, HEALTHCHECK NONE. */
  readonly changes?: readonly string[];
  readonly message?: string;
  readonly platform?: string;
  /** Milliseconds since the epoch; now when absent. A fixed one makes the image id a function of the content. */
  readonly createdAtMs?: number;
  readonly signal?: AbortSignal;
}

export interface ImageSummary {
  readonly id: Digest;
  /** Familiar names, sorted: `ubuntu:latest`. Empty for a dangling image. */
  readonly tags: readonly string[];
  /** Familiar, `ubuntu@sha256:…`. */
  readonly repoDigests: readonly string[];
  /** Milliseconds since the epoch; 0 when the config does not say. */
  readonly createdAtMs: number;
  /** Bytes of all files of all layers, as Docker counts. */
  readonly sizeBytes: number;
  /** Bytes of layers that other images use too. */
  readonly sharedBytes: number;
  readonly labels: Readonly<Record<string, string>>;
}

export interface ImageDetails extends ImageSummary {
  readonly config: ImageConfig;
  /** The config's JSON as it was pulled, loaded or made. */
  readonly rawConfig: Buffer;
  readonly manifest: Digest | undefined;
  readonly taggedAtMs: number | undefined;
}

export interface RootDiskLayer {
  /** An EROFS image; its size is a multiple of 4,096. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly diffId: Digest;
}

export interface RootDisk {
  readonly imageId: Digest;
  /** Lowest first. */
  readonly layers: readonly RootDiskLayer[];
  readonly config: ImageConfig;
}

export type RemovedItem = { readonly untagged: string } | { readonly deleted: Digest };

export interface ImageUser {
  /** A VM's id, for the message. */
  readonly id: string;
  readonly isRunning: boolean;
}

export interface RemoveOptions {
  readonly force?: boolean;
  /** Who uses an image. */
  readonly inUseBy?: (id: Digest) => readonly ImageUser[];
}

export interface HistoryEntry {
  /** The image's own id for the newest entry, `<missing>` for the others. */
  readonly id: string;
  readonly createdAtMs: number;
  readonly createdBy: string;
  readonly tags: readonly string[];
  readonly sizeBytes: number;
  readonly comment: string;
}

export interface ImageDiskUsage {
  /** Bytes of all layers, each counted once. */
  readonly layersBytes: number;
  /** Bytes on this host's disk: images, recipes, blobs. */
  readonly diskBytes: number;
  readonly images: readonly ImageSummary[];
}

export interface GarbageOptions {
  /** Also images that have names, as `docker image prune --all`. Default: only dangling ones. */
  readonly all?: boolean;
  /** Images that must stay. */
  readonly inUse?: () => Iterable<Digest>;
  /** Narrows what may go: Docker's prune filters. */
  readonly mayRemove?: (image: ImageSummary) => boolean;
}

export interface GarbageResult {
  readonly removed: readonly RemovedItem[];
  readonly freedBytes: number;
}

export interface SearchResult {
  readonly name: string;
  readonly description: string;
  readonly starCount: number;
  readonly isOfficial: boolean;
}
