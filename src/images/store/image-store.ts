import { join } from 'node:path';
import { BerthError, type Digest } from '#base';
import { nowMs } from '#platform';
import { type ImageConfig, parseImageConfig } from '../registry/manifest.ts';
import { canonicalName, parseReference, repositoryOf } from '../registry/reference.ts';
import { ContentStore } from './content-store.ts';
import { ImageIndex, type ImageRecord, type LayerRecord } from './image-index.ts';
import { SharedDownloads } from './shared-downloads.ts';

export interface NewImage {
  readonly id: Digest;
  readonly manifest?: Digest;
  readonly layers: readonly Digest[];
  /** Canonical. */
  readonly repoDigests: readonly string[];
  /** Canonical names that shall point to the image, wherever they pointed before. */
  readonly references: readonly string[];
}

/** Hex digits that a person may give for an image id: Docker takes any unambiguous prefix. */
const ID_PREFIX = /^(?:sha256:)?([0-9a-f]{1,64})$/;

/** The image index and the content it names, as one thing. */
export class ImageStore {
  readonly index: ImageIndex;
  readonly content: ContentStore;
  readonly downloads = new SharedDownloads();
  /** Parsed configs by id: content never changes, and listing images reads every config. */
  readonly #configs = new Map<Digest, { readonly raw: Buffer; readonly config: ImageConfig }>();

  private constructor(index: ImageIndex, content: ContentStore) {
    this.index = index;
    this.content = content;
  }

  static async open(root: string): Promise<ImageStore> {
    const index = await ImageIndex.open(join(root, 'index.json'));
    return new ImageStore(index, await ContentStore.open(root, index.state));
  }

  /**
   * The image of a name, `name@digest`, an id or an id's prefix.
   * @throws images.ambiguous (invalid) when a prefix fits several ids.
   */
  find(name: string): ImageRecord | undefined {
    const { images } = this.index.state;
    const named = this.#findNamed(name);
    if (named !== undefined) return named;
    const prefix = ID_PREFIX.exec(name)?.[1];
    if (prefix === undefined) return undefined;
    const found = [...images.values()].filter(({ id }) => id.startsWith(`sha256:${prefix}`));
    if (found.length > 1) {
      throw new BerthError('invalid', 'images.ambiguous', `image id prefix ${name} fits ${found.length} images`);
    }
    return found[0];
  }

  #findNamed(name: string): ImageRecord | undefined {
    const { images, references } = this.index.state;
    let reference: ReturnType<typeof parseReference>;
    try {
      reference = parseReference(name);
    } catch {
      return undefined;
    }
    const { digest } = reference;
    if (digest !== undefined) {
      const wanted = `${repositoryOf(reference)}@${digest}`;
      return [...images.values()].find(({ id, repoDigests }) => id === digest || repoDigests.includes(wanted));
    }
    const id = references.get(canonicalName(reference));
    return id === undefined ? undefined : images.get(id);
  }

  /** @throws images.not_found (not_found), with Docker's text. */
  get(name: string): ImageRecord {
    const image = this.find(name);
    if (image !== undefined) return image;
    throw new BerthError('not_found', 'images.not_found', `No such image: ${withTag(name)}`, {
      hint: `pull it: berth pull ${name}`,
    });
  }

  async config(id: Digest): Promise<{ readonly raw: Buffer; readonly config: ImageConfig }> {
    const known = this.#configs.get(id);
    if (known !== undefined) return known;
    const raw = await this.content.readBlob(id);
    const parsed = { raw, config: parseImageConfig(raw) };
    this.#configs.set(id, parsed);
    return parsed;
  }

  forgetConfig(id: Digest): void {
    this.#configs.delete(id);
  }

  /** Points `name` (canonical) to an image that is here. @throws images.not_found (not_found). */
  async tag(source: string, name: string): Promise<void> {
    await this.index.mutate((draft) => {
      const image = this.get(source);
      draft.images.set(image.id, { ...image, taggedAtMs: nowMs() });
      draft.references.set(name, image.id);
    });
  }

  /** Records an image whose content is on the disk and held by a lease. */
  async commit(image: NewImage): Promise<void> {
    const atMs = nowMs();
    const layers = image.layers.map((diffId): LayerRecord => {
      const layer = this.content.layer(diffId);
      if (layer === undefined) throw new BerthError('bug', 'images.layer_missing', `layer ${diffId} was not converted`);
      return layer;
    });
    await this.index.mutate((draft) => {
      const before = draft.images.get(image.id);
      const manifest = image.manifest ?? before?.manifest;
      const taggedAtMs = image.references.length > 0 ? atMs : before?.taggedAtMs;
      draft.images.set(image.id, {
        id: image.id,
        ...(manifest === undefined ? {} : { manifest }),
        layers: [...image.layers],
        repoDigests: [...new Set([...(before?.repoDigests ?? []), ...image.repoDigests])],
        addedAtMs: before?.addedAtMs ?? atMs,
        ...(taggedAtMs === undefined ? {} : { taggedAtMs }),
      });
      for (const layer of layers) draft.layers.set(layer.diffId, layer);
      for (const name of image.references) draft.references.set(name, image.id);
    });
  }
}

function withTag(name: string): string {
  if (ID_PREFIX.test(name) || name.includes('@') || /:[^/]*$/.test(name)) return name;
  return `${name}:latest`;
}
