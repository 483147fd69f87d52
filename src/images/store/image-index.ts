/** What the store knows: images, their names and their layers, as one file that is replaced as a whole. */
import * as v from 'valibot';
import { BerthError, type Digest, isDigest } from '#base';
import { files } from '#platform';
import { translate } from '../layers/layer-conversion.ts';

const DigestText = v.pipe(
  v.string(),
  v.check((text) => isDigest(text)),
  v.transform((text) => text as Digest),
);
const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

const LayerRecordSchema = v.object({
  diffId: DigestText,
  /** The blob the layer came as, when it came from a registry. */
  blobDigest: v.optional(DigestText),
  blobBytes: v.optional(Count),
  tarBytes: Count,
  contentBytes: Count,
  imageBytes: Count,
  recipeBytes: Count,
});
const ImageRecordSchema = v.object({
  /** The config's digest: Docker's image id. */
  id: DigestText,
  /** The manifest the image came with; its blob is kept. */
  manifest: v.optional(DigestText),
  layers: v.array(DigestText),
  /** Canonical, `docker.io/library/ubuntu@sha256:…`. */
  repoDigests: v.array(v.string()),
  addedAtMs: Count,
  taggedAtMs: v.optional(Count),
});
const IndexSchema = v.object({
  version: v.literal(1),
  images: v.array(ImageRecordSchema),
  layers: v.array(LayerRecordSchema),
  /** Canonical name to image id. */
  references: v.record(v.string(), DigestText),
});

export type LayerRecord = Readonly<v.InferOutput<typeof LayerRecordSchema>>;
export type ImageRecord = Readonly<v.InferOutput<typeof ImageRecordSchema>>;

/** The whole state; the maps are replaced by mutations, never shared with readers as mutable. */
export interface IndexState {
  readonly images: ReadonlyMap<Digest, ImageRecord>;
  readonly layers: ReadonlyMap<Digest, LayerRecord>;
  readonly references: ReadonlyMap<string, Digest>;
}

/** A copy of the state that one mutation works on. */
export interface IndexDraft {
  readonly images: Map<Digest, ImageRecord>;
  readonly layers: Map<Digest, LayerRecord>;
  readonly references: Map<string, Digest>;
}

export class ImageIndex {
  readonly #path: string;
  #state: IndexState;
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(path: string, state: IndexState) {
    this.#path = path;
    this.#state = state;
  }

  /** @throws images.index_damaged (data_loss) when the file is there but cannot be understood. */
  static async open(path: string): Promise<ImageIndex> {
    const text = await files.readTextIfExists(path);
    if (text === undefined)
      return new ImageIndex(path, { images: new Map(), layers: new Map(), references: new Map() });
    const result = v.safeParse(IndexSchema, parseJsonText(text, path));
    if (!result.success) throw damaged(path, result.issues[0].message);
    const { images, layers, references } = result.output;
    return new ImageIndex(path, {
      images: new Map(images.map((image) => [image.id, image])),
      layers: new Map(layers.map((layer) => [layer.diffId, layer])),
      references: new Map(Object.entries(references)),
    });
  }

  get state(): IndexState {
    return this.#state;
  }

  /** Runs `work` alone among everything else that goes through here. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work);
    this.#queue = result.catch(() => {});
    return result;
  }

  /** One change, durable before it is visible; readers see all of it or nothing. `change` may throw to refuse. */
  mutate<T>(change: (draft: IndexDraft) => T): Promise<T> {
    return this.exclusively(() => this.mutateInside(change));
  }

  /** As `mutate`, for work that already runs inside `exclusively`. */
  async mutateInside<T>(change: (draft: IndexDraft) => T): Promise<T> {
    const { images, layers, references } = this.#state;
    const draft = { images: new Map(images), layers: new Map(layers), references: new Map(references) };
    const result = change(draft);
    const stored = {
      version: 1,
      images: [...draft.images.values()],
      layers: [...draft.layers.values()],
      references: Object.fromEntries(draft.references),
    };
    try {
      await files.writeFileAtomic(this.#path, JSON.stringify(stored));
    } catch (error) {
      throw translate(error);
    }
    this.#state = draft;
    return result;
  }
}

function parseJsonText(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw damaged(path, 'it is not JSON');
  }
}

function damaged(path: string, why: string): BerthError {
  return new BerthError('data_loss', 'images.index_damaged', `the image index ${path} is damaged: ${why}`, {
    hint: 'move the images folder away and pull the images again',
  });
}
