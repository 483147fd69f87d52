/**
 * From a name to an image on disk.
 *
 * Order: manifest → platform → config → layers (three at a time, each downloaded and converted in one stream) →
 * manifest and config blobs → index. The name is written last, so that a pull that is cut at any point leaves the
 * old image, or none.
 */
import { BerthError, type Digest, shortId } from '#base';
import { monotonicMs } from '#platform';
import { translate } from '../layers/layer-conversion.ts';
import {
  checkDescriptors,
  type Descriptor,
  type ImageConfig,
  type ImageManifest,
  isIndex,
  parseImageConfig,
  parseManifestOrIndex,
} from '../registry/manifest.ts';
import { checkPlatform, choosePlatform, hostPlatform, parsePlatform } from '../registry/platform-choice.ts';
import {
  familiarName,
  familiarReference,
  type ImageReference,
  parseReference,
  repositoryOf,
} from '../registry/reference.ts';
import { RegistryClient } from '../registry/registry-client.ts';
import type { Lease } from '../store/content-store.ts';
import type { ImageStore } from '../store/image-store.ts';
import type { ProgressListener, PullOptions, PullResult } from './image-types.ts';

/** Docker's own number: more helps neither the network nor two processors. */
const PARALLEL_LAYERS = 3;
/** Milliseconds between two progress events of one layer. */
const PROGRESS_EVERY_MS = 100;

export async function pullImage(store: ImageStore, name: string, options: PullOptions): Promise<PullResult> {
  try {
    return await pull(store, name, options);
  } catch (error) {
    throw translate(error, options.signal);
  }
}

async function pull(store: ImageStore, name: string, options: PullOptions): Promise<PullResult> {
  const reference = parseReference(name);
  const { signal } = options;
  const emit: ProgressListener = options.onProgress ?? (() => {});
  const wanted = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform);
  const client = new RegistryClient(reference, {
    ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
    ...(signal === undefined ? {} : { signal }),
  });
  const target = reference.digest ?? reference.tag ?? 'latest';
  const top = await client.manifest(target);
  emit({
    status: `Pulling from ${familiarName(repositoryOf(reference)).replace(/^[^/]*[.:][^/]*\//, '')}`,
    id: target,
  });
  const lease = store.content.lease();
  try {
    let document = parseManifestOrIndex(top.bytes, `the manifest of ${familiarReference(reference)}`);
    let own = top;
    if (isIndex(document)) {
      own = await client.manifest(choosePlatform(document.manifests, wanted).digest);
      document = parseManifestOrIndex(own.bytes, `the manifest ${own.digest}`);
      if (isIndex(document))
        throw new BerthError('unsupported', 'manifest.nested_index', `${name} holds an index of indexes`);
    }
    const manifest: ImageManifest = document;
    const rawConfig = await client.config(manifest.config);
    const config = parseImageConfig(rawConfig);
    checkPlatform(config, wanted, familiarReference(reference));
    checkDescriptors(manifest, config);
    await pullLayers({ store, client, manifest, config, lease, signal, emit });
    await store.content.addBlob(own.bytes, lease);
    await store.content.addBlob(rawConfig, lease);
    return await finishPull(
      store,
      { reference, id: manifest.config.digest, manifest: own.digest, top: top.digest, config },
      emit,
    );
  } finally {
    lease.release();
  }
}

interface Finished {
  readonly reference: ImageReference;
  readonly id: Digest;
  readonly manifest: Digest;
  readonly top: Digest;
  readonly config: ImageConfig;
}

async function finishPull(store: ImageStore, done: Finished, emit: ProgressListener): Promise<PullResult> {
  const { reference, id } = done;
  const repository = repositoryOf(reference);
  const before = store.find(familiarReference(reference));
  await store.commit({
    id,
    manifest: done.manifest,
    layers: done.config.diffIds,
    repoDigests: [`${repository}@${done.top}`],
    references: reference.tag === undefined ? [] : [`${repository}:${reference.tag}`],
  });
  const isNew = before?.id !== id;
  const shown = familiarReference(reference);
  emit({ status: `Digest: ${done.top}` });
  emit({ status: isNew ? `Status: Downloaded newer image for ${shown}` : `Status: Image is up to date for ${shown}` });
  return { id, digest: done.top, isNew };
}

interface LayerPull {
  readonly store: ImageStore;
  readonly client: RegistryClient;
  readonly manifest: ImageManifest;
  readonly config: ImageConfig;
  readonly lease: Lease;
  readonly signal: AbortSignal | undefined;
  readonly emit: ProgressListener;
}

async function pullLayers(pull: LayerPull): Promise<void> {
  const pending = pull.manifest.layers.map((descriptor, index) => ({ descriptor, diffId: pull.config.diffIds[index] }));
  for (const { descriptor } of pending) pull.emit({ status: 'Pulling fs layer', id: shortId(descriptor.digest) });
  // One failed layer ends the others: nobody wants half an image.
  const stop = new AbortController();
  const signal = pull.signal === undefined ? stop.signal : AbortSignal.any([pull.signal, stop.signal]);
  const done = new Set<Digest>();
  const worker = async (): Promise<void> => {
    for (let next = pending.shift(); next !== undefined; next = pending.shift()) {
      const { descriptor, diffId } = next;
      if (diffId === undefined || done.has(diffId)) continue;
      done.add(diffId);
      await pullLayer(pull, descriptor, diffId, signal);
    }
  };
  const workers = Array.from({ length: PARALLEL_LAYERS }, () =>
    worker().catch((error: unknown) => {
      stop.abort(error);
      throw error;
    }),
  );
  const results = await Promise.allSettled(workers);
  if (pull.signal?.aborted === true) throw new BerthError('cancelled', 'images.cancelled', 'the pull was cancelled');
  const failures = results.filter((result) => result.status === 'rejected').map((result): unknown => result.reason);
  // The first cause, not the cancellations that followed from it.
  const first = failures.find((error) => !(error instanceof BerthError && error.kind === 'cancelled')) ?? failures[0];
  if (first !== undefined) throw first;
}

async function pullLayer(pull: LayerPull, descriptor: Descriptor, diffId: Digest, signal: AbortSignal): Promise<void> {
  const id = shortId(descriptor.digest);
  pull.lease.claim(diffId);
  if (pull.store.content.layer(diffId) !== undefined) {
    pull.emit({ status: 'Already exists', id });
    return;
  }
  let lastMs = 0;
  await pull.store.downloads.join(`${descriptor.digest} ${diffId}`, {
    signal,
    onProgress: (current) => {
      const now = monotonicMs();
      if (now - lastMs < PROGRESS_EVERY_MS) return;
      lastMs = now;
      pull.emit({ status: 'Downloading', id, progressDetail: { current, total: descriptor.size } });
    },
    start: async (shared, onProgress) => {
      const lease = pull.store.content.lease();
      try {
        await pull.store.content.addLayer(
          {
            source: pull.client.blob(descriptor, shared),
            expected: { digest: descriptor.digest, sizeBytes: descriptor.size },
            expectedDiffId: diffId,
            signal: shared,
            onProgress,
          },
          lease,
        );
      } finally {
        lease.release();
      }
    },
  });
  pull.emit({ status: 'Verifying Checksum', id });
  pull.emit({ status: 'Download complete', id });
  pull.emit({ status: 'Extracting', id, progressDetail: { current: descriptor.size, total: descriptor.size } });
  pull.emit({ status: 'Pull complete', id });
}
