/**
 * Images as one archive: OCI layout and Docker's manifest.json side by side, as Docker 25 and later write it.
 * Layers are made again from their recipes and checked against their diffIDs on the way out.
 */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { BerthError, type Digest } from '#base';
import { digestOf, digestOfBytes } from '../layers/layer-conversion.ts';
import { type ImageConfig, MEDIA_TYPES } from '../registry/manifest.ts';
import { canonicalName, familiarReference, parseReference } from '../registry/reference.ts';
import type { ImageStore } from '../store/image-store.ts';
import { tarEnd, tarFile, tarHeader, tarPadding } from '../tar/tar-writer.ts';

interface SavedImage {
  readonly id: Digest;
  readonly raw: Buffer;
  readonly config: ImageConfig;
  /** Canonical. */
  readonly names: readonly string[];
  readonly manifest: Buffer;
}

/** @throws images.not_found (not_found) before the first byte; layer.diff_id_mismatch (data_loss) within. */
export async function saveImages(store: ImageStore, names: readonly string[]): Promise<Readable> {
  const byId = new Map<Digest, Set<string>>();
  const lease = store.content.lease();
  try {
    for (const name of names) {
      const { id, layers } = store.get(name);
      for (const digest of [id, ...layers]) lease.claim(digest);
      const tags = byId.get(id) ?? new Set<string>();
      byId.set(id, tags);
      for (const tag of namesFor(store, name, id)) tags.add(tag);
    }
    const images: SavedImage[] = [];
    for (const [id, tags] of byId) {
      const { raw, config } = await store.config(id);
      images.push({ id, raw, config, names: [...tags].sort(), manifest: manifestFor(store, id, raw, config) });
    }
    const stream = Readable.from(archive(store, images), { objectMode: false });
    // Also when nobody ever reads: a client may be gone before the first byte.
    stream.once('close', () => lease.release());
    return stream;
  } catch (error) {
    lease.release();
    throw error;
  }
}

/** A tag saves itself, a repository without tag its `latest`; an id saves no name. */
function namesFor(store: ImageStore, name: string, id: Digest): string[] {
  try {
    const canonical = canonicalName(parseReference(name));
    return store.index.state.references.get(canonical) === id ? [canonical] : [];
  } catch {
    return [];
  }
}

function manifestFor(store: ImageStore, id: Digest, raw: Buffer, config: ImageConfig): Buffer {
  const layers = config.diffIds.map((digest) => ({
    mediaType: MEDIA_TYPES.ociLayer,
    digest,
    size: tarBytesOf(store, digest),
  }));
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: { mediaType: MEDIA_TYPES.ociConfig, digest: id, size: raw.length },
    layers,
  };
  return Buffer.from(JSON.stringify(manifest));
}

function tarBytesOf(store: ImageStore, diffId: Digest): number {
  const layer = store.content.layer(diffId);
  if (layer !== undefined) return layer.tarBytes;
  throw new BerthError('data_loss', 'images.layer_missing', `layer ${diffId} is gone from the image store`, {
    hint: 'remove the image and pull it again',
  });
}

async function* archive(store: ImageStore, images: readonly SavedImage[]): AsyncGenerator<Buffer> {
  yield tarHeader({ path: 'blobs', type: 'directory' });
  yield tarHeader({ path: 'blobs/sha256', type: 'directory' });
  const written = new Set<Digest>();
  for (const image of images) {
    for (const blob of [image.raw, image.manifest]) {
      const digest = digestOfBytes(blob);
      if (!written.has(digest)) yield tarFile(blobPath(digest), blob);
      written.add(digest);
    }
    for (const diffId of image.config.diffIds) {
      if (!written.has(diffId)) yield* layerMember(store, diffId);
      written.add(diffId);
    }
  }
  yield tarFile('index.json', JSON.stringify(ociIndex(images)));
  yield tarFile('manifest.json', JSON.stringify(images.map(dockerManifest)));
  yield tarFile('oci-layout', '{"imageLayoutVersion":"1.0.0"}');
  yield tarFile('repositories', JSON.stringify(repositories(images)));
  yield tarEnd();
}

function blobPath(digest: Digest): string {
  return `blobs/sha256/${digest.slice(7)}`;
}

async function* layerMember(store: ImageStore, diffId: Digest): AsyncGenerator<Buffer> {
  const sizeBytes = tarBytesOf(store, diffId);
  yield tarHeader({ path: blobPath(diffId), type: 'file', sizeBytes });
  const hash = createHash('sha256');
  for await (const chunk of store.content.layerTar(diffId)) {
    hash.update(chunk);
    yield chunk;
  }
  if (digestOf(hash) !== diffId) {
    throw new BerthError('data_loss', 'layer.diff_id_mismatch', `layer ${diffId} is damaged on this host's disk`, {
      hint: 'remove the image and pull it again',
    });
  }
  yield tarPadding(sizeBytes);
}

function ociIndex(images: readonly SavedImage[]): unknown {
  const manifests = images.flatMap(({ manifest, names, config }) => {
    const descriptor = {
      mediaType: MEDIA_TYPES.ociManifest,
      digest: digestOfBytes(manifest),
      size: manifest.length,
      platform: { architecture: config.architecture, os: config.os },
    };
    if (names.length === 0) return [descriptor];
    return names.map((name) => ({
      ...descriptor,
      annotations: {
        'io.containerd.image.name': name,
        'org.opencontainers.image.ref.name': name.slice(name.lastIndexOf(':') + 1),
      },
    }));
  });
  return { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests };
}

function dockerManifest(image: SavedImage): unknown {
  return {
    Config: blobPath(image.id),
    RepoTags: image.names.length === 0 ? null : image.names.map((name) => familiarReference(parseReference(name))),
    Layers: image.config.diffIds.map(blobPath),
  };
}

/** Docker's oldest list of names; old tools still read it. */
function repositories(images: readonly SavedImage[]): Record<string, Record<string, string>> {
  const found: Record<string, Record<string, string>> = {};
  for (const { id, names } of images) {
    for (const name of names) {
      const shown = familiarReference(parseReference(name));
      const colon = shown.lastIndexOf(':');
      const repository = shown.slice(0, colon);
      found[repository] = { ...found[repository], [shown.slice(colon + 1)]: id.slice(7) };
    }
  }
  return found;
}
