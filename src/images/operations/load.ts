/**
 * `docker save` archives and OCI archives, plain or compressed, in one pass.
 *
 * An archive may hold its layers before the manifest that names them, so every member that looks like a layer is
 * converted as it streams by, and what the manifest then does not name is swept. Nothing is unpacked: members are
 * looked up by name in memory, links among them included.
 */
import * as v from 'valibot';
import { BerthError, type Digest, isDigest, MIB, shortId } from '#base';
import { decompressed, peek } from '../layers/decompression.ts';
import { DEFAULT_LAYER_LIMITS, digestOfBytes } from '../layers/layer-conversion.ts';
import {
  CONFIG_MAX_BYTES,
  checkDescriptors,
  type Descriptor,
  isIndex,
  parseImageConfig,
  parseJson,
  parseManifestOrIndex,
} from '../registry/manifest.ts';
import { choosePlatform, hostPlatform } from '../registry/platform-choice.ts';
import { canonicalName, familiarReference, parseReference } from '../registry/reference.ts';
import type { Lease } from '../store/content-store.ts';
import type { ImageStore } from '../store/image-store.ts';
import { displayName } from '../tar/tar-entry.ts';
import { tarMembers } from '../tar/tar-members.ts';
import type { LoadOptions, LoadResult } from './image-types.ts';

/** Documents of an archive are kept in memory until its end; real archives have some kilobytes of them. */
const DOCUMENTS_MAX_BYTES = 64 * MIB;
const BLOB_NAME = /^blobs\/sha256\/([0-9a-f]{64})$/;
const LAYER_NAME = /(^|\/)layer\.tar$|\.(tar|tgz|tar\.gz|tar\.zst)$/;

const DockerManifestSchema = v.array(
  v.object({ Config: v.string(), RepoTags: v.nullish(v.array(v.string())), Layers: v.nullish(v.array(v.string())) }),
);

interface Archive {
  /** By member name; byte strings. */
  readonly documents: Map<string, Buffer>;
  readonly layers: Map<string, Digest>;
  readonly links: Map<string, string>;
}

/** @throws load.no_manifest, load.missing_member and tar.* (invalid); layer.* and images.disk_full as `pull`. */
export async function loadImages(
  store: ImageStore,
  tar: AsyncIterable<Buffer>,
  options: LoadOptions,
): Promise<LoadResult[]> {
  const lease = store.content.lease();
  try {
    const archive = await readArchive(store, tar, lease, options);
    const manifest = archive.documents.get('manifest.json');
    const results =
      manifest !== undefined
        ? await commitDockerArchive(store, archive, manifest, lease)
        : await commitOciArchive(store, archive, lease);
    return results;
  } finally {
    lease.release();
    await store.index.exclusively(() => store.content.sweep(store.index.state));
  }
}

async function readArchive(
  store: ImageStore,
  tar: AsyncIterable<Buffer>,
  lease: Lease,
  options: LoadOptions,
): Promise<Archive> {
  const archive: Archive = { documents: new Map(), layers: new Map(), links: new Map() };
  let documentBytes = 0;
  for await (const { entry, body } of tarMembers(decompressed(tar, DEFAULT_LAYER_LIMITS.maxTarBytes))) {
    if (options.signal?.aborted === true)
      throw new BerthError('cancelled', 'images.cancelled', 'the load was cancelled');
    if (entry.type === 'symlink' || entry.type === 'hardlink') archive.links.set(entry.path, linkTarget(entry));
    if (entry.type !== 'file') continue;
    const { head, whole } = await peek(body, Math.min(512, entry.sizeBytes));
    if (isLayer(entry.path, head)) {
      archive.layers.set(entry.path, await readLayer(store, entry, whole, lease, options));
    } else if (entry.sizeBytes <= CONFIG_MAX_BYTES) {
      documentBytes += entry.sizeBytes;
      if (documentBytes > DOCUMENTS_MAX_BYTES) {
        throw new BerthError(
          'invalid',
          'load.too_large',
          `the archive's documents exceed ${DOCUMENTS_MAX_BYTES} bytes`,
        );
      }
      const chunks: Buffer[] = [];
      for await (const chunk of whole) chunks.push(Buffer.from(chunk));
      archive.documents.set(entry.path, Buffer.concat(chunks));
    }
  }
  return archive;
}

function isLayer(path: string, head: Buffer): boolean {
  if (head.toString('latin1', 257, 262) === 'ustar') return true;
  if (BLOB_NAME.test(path)) return head[0] !== 0x7b && head.length > 0;
  return LAYER_NAME.test(path);
}

async function readLayer(
  store: ImageStore,
  entry: { readonly path: string; readonly sizeBytes: number },
  source: AsyncIterable<Buffer>,
  lease: Lease,
  options: LoadOptions,
): Promise<Digest> {
  const named = `sha256:${BLOB_NAME.exec(entry.path)?.[1]}`;
  if (isDigest(named)) {
    lease.claim(named);
    // An uncompressed blob is named by its diffID: what is here already need not be converted again.
    if (store.content.layer(named) !== undefined) return named;
  }
  const id = shortId(isDigest(named) ? named : entry.path.replace(/\/layer\.tar$/, ''));
  const layer = await store.content.addLayer(
    {
      source,
      ...(isDigest(named) ? { expected: { digest: named, sizeBytes: entry.sizeBytes } } : {}),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    },
    lease,
  );
  options.onProgress?.({
    status: 'Loading layer',
    id,
    progressDetail: { current: entry.sizeBytes, total: entry.sizeBytes },
  });
  return layer.diffId;
}

/** The member a link stands for: hard links name it from the top, symbolic ones from their own folder. */
function linkTarget(entry: { readonly type: string; readonly path: string; readonly linkTarget: string }): string {
  if (entry.type === 'hardlink') return entry.linkTarget;
  const parts = entry.path.split('/').slice(0, -1);
  for (const part of entry.linkTarget.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return parts.join('/');
}

function member<T>(archive: Archive, from: ReadonlyMap<string, T>, name: string): T {
  let path = Buffer.from(name)
    .toString('latin1')
    .replace(/^\.?\//, '');
  for (let hops = 0; hops < 40; hops += 1) {
    const found = from.get(path);
    if (found !== undefined) return found;
    const next = archive.links.get(path);
    if (next === undefined) break;
    path = next;
  }
  throw new BerthError(
    'invalid',
    'load.missing_member',
    `the archive names ${displayName(name)}, but does not hold it`,
  );
}

async function commitDockerArchive(
  store: ImageStore,
  archive: Archive,
  manifest: Buffer,
  lease: Lease,
): Promise<LoadResult[]> {
  const results: LoadResult[] = [];
  for (const image of parseJson(DockerManifestSchema, manifest, "the archive's manifest.json")) {
    const rawConfig = member(archive, archive.documents, image.Config);
    const layers = (image.Layers ?? []).map((name) => member(archive, archive.layers, name));
    const names = (image.RepoTags ?? []).map((tag) => canonicalName(parseReference(tag)));
    results.push(await commitImage(store, { rawConfig, layers, names }, lease));
  }
  return results;
}

async function commitOciArchive(store: ImageStore, archive: Archive, lease: Lease): Promise<LoadResult[]> {
  const top = archive.documents.get('index.json');
  if (top === undefined) {
    throw new BerthError(
      'invalid',
      'load.no_manifest',
      'the archive is not an image: it has no manifest.json and no index.json',
      {
        hint: 'a plain root file system is brought in with "berth import"',
      },
    );
  }
  const index = parseManifestOrIndex(top, "the archive's index.json");
  if (!isIndex(index)) throw new BerthError('invalid', 'load.no_manifest', "the archive's index.json is not an index");
  const results: LoadResult[] = [];
  for (const descriptor of index.manifests) {
    if (descriptor.platform?.os === 'unknown') continue;
    const manifest = ociManifest(archive, descriptor);
    const rawConfig = blob(archive, manifest.config);
    checkDescriptors(manifest, parseImageConfig(rawConfig));
    const layers = manifest.layers.map(({ digest }) =>
      member(archive, archive.layers, `blobs/sha256/${digest.slice(7)}`),
    );
    results.push(await commitImage(store, { rawConfig, layers, names: namesOf(descriptor) }, lease));
  }
  return results;
}

function ociManifest(
  archive: Archive,
  descriptor: Descriptor,
): Exclude<ReturnType<typeof parseManifestOrIndex>, { manifests: unknown }> {
  const document = parseManifestOrIndex(blob(archive, descriptor), `the manifest ${descriptor.digest}`);
  if (!isIndex(document)) return document;
  const inner = parseManifestOrIndex(blob(archive, choosePlatform(document.manifests, hostPlatform())), 'the manifest');
  if (isIndex(inner))
    throw new BerthError('unsupported', 'manifest.nested_index', 'the archive holds an index of indexes');
  return inner;
}

function blob(archive: Archive, descriptor: Descriptor): Buffer {
  const bytes = member(archive, archive.documents, `blobs/sha256/${descriptor.digest.slice(7)}`);
  if (digestOfBytes(bytes) === descriptor.digest) return bytes;
  throw new BerthError(
    'data_loss',
    'load.digest_mismatch',
    `the archive's blob ${descriptor.digest} has another digest`,
  );
}

/** containerd writes the whole name; the specification's own annotation is often only the tag, which names nothing. */
function namesOf(descriptor: Descriptor): string[] {
  const annotations = descriptor.annotations ?? {};
  const name = annotations['io.containerd.image.name'] ?? annotations['org.opencontainers.image.ref.name'];
  if (name === undefined || !/[:/]/.test(name)) return [];
  return [canonicalName(parseReference(name))];
}

async function commitImage(
  store: ImageStore,
  image: { readonly rawConfig: Buffer; readonly layers: readonly Digest[]; readonly names: readonly string[] },
  lease: Lease,
): Promise<LoadResult> {
  const config = parseImageConfig(image.rawConfig);
  const isSame =
    config.diffIds.length === image.layers.length && config.diffIds.every((diffId, at) => diffId === image.layers[at]);
  if (!isSame) {
    throw new BerthError(
      'data_loss',
      'layer.diff_id_mismatch',
      "the archive's layers are not the ones that its config names",
    );
  }
  const id = await store.content.addBlob(image.rawConfig, lease);
  await store.commit({ id, layers: config.diffIds, repoDigests: [], references: image.names });
  return { id, references: image.names.map((name) => familiarReference(parseReference(name))) };
}
