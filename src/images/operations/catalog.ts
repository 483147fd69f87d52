/** What the store holds, as people and the Docker API see it. */
import { BerthError, type Digest } from '#base';
import type { ImageConfig } from '../registry/manifest.ts';
import { familiarName, familiarReference, parseReference } from '../registry/reference.ts';
import type { ImageRecord } from '../store/image-index.ts';
import type { ImageStore } from '../store/image-store.ts';
import type { HistoryEntry, ImageDetails, ImageDiskUsage, ImageSummary, RootDisk } from './image-types.ts';

/** Newest first. An image whose config cannot be read is left out of the list, not the list out of reach. */
export async function listImages(store: ImageStore): Promise<ImageSummary[]> {
  const users = new Map<Digest, number>();
  for (const { layers } of store.index.state.images.values()) {
    for (const diffId of new Set(layers)) users.set(diffId, (users.get(diffId) ?? 0) + 1);
  }
  const summaries: ImageSummary[] = [];
  for (const image of store.index.state.images.values()) {
    try {
      const { config } = await store.config(image.id);
      const isShared = (diffId: Digest): boolean => (users.get(diffId) ?? 0) > 1;
      summaries.push(
        summarise(store, image, { config, sharedBytes: layersBytes(store, image.layers.filter(isShared)) }),
      );
    } catch (error) {
      if (!(error instanceof BerthError) || error.kind !== 'data_loss') throw error;
    }
  }
  return summaries.sort((a, b) => b.createdAtMs - a.createdAtMs || (a.id < b.id ? -1 : 1));
}

function summarise(
  store: ImageStore,
  image: ImageRecord,
  facts: { readonly config: ImageConfig; readonly sharedBytes: number },
): ImageSummary {
  return {
    id: image.id,
    tags: tagsOf(store, image.id),
    repoDigests: image.repoDigests.map(familiarName),
    createdAtMs: timeOf(facts.config.created),
    sizeBytes: layersBytes(store, image.layers),
    sharedBytes: facts.sharedBytes,
    labels: facts.config.config.Labels ?? {},
  };
}

function tagsOf(store: ImageStore, id: Digest): string[] {
  return [...store.index.state.references]
    .filter(([, target]) => target === id)
    .map(([name]) => familiarReference(parseReference(name)))
    .sort();
}

function layersBytes(store: ImageStore, layers: readonly Digest[]): number {
  return layers.reduce((total, diffId) => total + (store.content.layer(diffId)?.contentBytes ?? 0), 0);
}

/** Milliseconds since the epoch; 0 for a time that is absent or not one. */
function timeOf(text: string | undefined | null): number {
  const time = Date.parse(text ?? '');
  return Number.isNaN(time) ? 0 : Math.max(0, time);
}

export async function inspectImage(store: ImageStore, name: string): Promise<ImageDetails> {
  const image = store.get(name);
  const { raw, config } = await store.config(image.id);
  return {
    ...summarise(store, image, { config, sharedBytes: 0 }),
    config,
    rawConfig: raw,
    manifest: image.manifest,
    taggedAtMs: image.taggedAtMs,
  };
}

/** Newest first, as `docker history` prints it: every step of the config, sizes beside those that made a layer. */
export async function imageHistory(store: ImageStore, name: string): Promise<HistoryEntry[]> {
  const image = store.get(name);
  const { config } = await store.config(image.id);
  const sizes = image.layers.map((diffId) => layersBytes(store, [diffId]));
  // A config without a history still has layers to tell of.
  const steps =
    config.history.length > 0 ? config.history : image.layers.map(() => ({}) as ImageConfig['history'][number]);
  let layer = 0;
  const entries = steps.map((step): HistoryEntry => {
    const sizeBytes = step.empty_layer === true ? 0 : (sizes[layer] ?? 0);
    if (step.empty_layer !== true) layer += 1;
    return {
      id: '<missing>',
      createdAtMs: timeOf(step.created),
      createdBy: step.created_by ?? '',
      tags: [],
      sizeBytes,
      comment: step.comment ?? '',
    };
  });
  return entries
    .reverse()
    .map((entry, at) => (at === 0 ? { ...entry, id: image.id, tags: tagsOf(store, image.id) } : entry));
}

export async function imageDiskUsage(store: ImageStore): Promise<ImageDiskUsage> {
  const images = await listImages(store);
  let layers = 0;
  let disk = 0;
  for (const layer of store.index.state.layers.values()) {
    layers += layer.contentBytes;
    disk += layer.imageBytes + layer.recipeBytes;
  }
  return { layersBytes: layers, diskBytes: disk, images };
}

/** @throws images.layer_missing (data_loss) when a layer's file is gone. */
export async function rootDiskOf(store: ImageStore, name: string): Promise<RootDisk> {
  const image = store.get(name);
  const { config } = await store.config(image.id);
  const layers = image.layers.map((diffId) => {
    const layer = store.content.layer(diffId);
    if (layer === undefined) {
      throw new BerthError('data_loss', 'images.layer_missing', `layer ${diffId} is gone from the image store`, {
        hint: `pull the image again: berth pull ${name}`,
      });
    }
    return { path: store.content.layerPaths(diffId).image, sizeBytes: layer.imageBytes, diffId };
  });
  return { imageId: image.id, layers, config };
}
