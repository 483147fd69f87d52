/** Manifests, indexes and configs as they come from a registry or an archive, parsed once. Source: OCI image spec 1.1. */
import * as v from 'valibot';
import { BerthError, type Digest, isDigest, MIB } from '#base';

export const MEDIA_TYPES = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
} as const;

/** The distribution spec lets registries refuse manifests above 4 MiB; a config carries a history, so it may be larger. */
export const MANIFEST_MAX_BYTES = 4 * MIB;
export const CONFIG_MAX_BYTES = 8 * MIB;
/** Docker's own limit, from the number of lower directories that overlayfs takes in one mount. */
export const MAX_LAYERS = 127;

const DigestSchema = v.pipe(
  v.string(),
  v.check((text) => isDigest(text), 'not a sha256 digest'),
  v.transform((text) => text as Digest),
);
const SizeSchema = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const PlatformSchema = v.object({
  architecture: v.optional(v.string(), ''),
  os: v.optional(v.string(), ''),
  variant: v.nullish(v.string()),
});
const DescriptorSchema = v.object({
  mediaType: v.optional(v.string(), ''),
  digest: DigestSchema,
  size: SizeSchema,
  platform: v.nullish(PlatformSchema),
  annotations: v.nullish(v.record(v.string(), v.string())),
});
const ManifestSchema = v.object({
  schemaVersion: v.literal(2),
  mediaType: v.optional(v.string()),
  config: DescriptorSchema,
  layers: v.pipe(v.array(DescriptorSchema), v.maxLength(MAX_LAYERS, `more than ${MAX_LAYERS} layers`)),
});
const IndexSchema = v.object({
  schemaVersion: v.literal(2),
  mediaType: v.optional(v.string()),
  manifests: v.array(DescriptorSchema),
});

const Texts = v.nullish(v.array(v.string()));
const RunConfigSchema = v.object({
  User: v.nullish(v.string()),
  ExposedPorts: v.nullish(v.record(v.string(), v.unknown())),
  Env: Texts,
  Entrypoint: Texts,
  Cmd: Texts,
  Volumes: v.nullish(v.record(v.string(), v.unknown())),
  WorkingDir: v.nullish(v.string()),
  Labels: v.nullish(v.record(v.string(), v.string())),
  StopSignal: v.nullish(v.string()),
  Shell: Texts,
  OnBuild: Texts,
  /** Durations are nanoseconds, as Docker writes them. */
  Healthcheck: v.nullish(
    v.object({
      Test: Texts,
      Interval: v.nullish(v.number()),
      Timeout: v.nullish(v.number()),
      StartPeriod: v.nullish(v.number()),
      StartInterval: v.nullish(v.number()),
      Retries: v.nullish(v.number()),
    }),
  ),
});
const HistorySchema = v.object({
  created: v.nullish(v.string()),
  created_by: v.nullish(v.string()),
  author: v.nullish(v.string()),
  comment: v.nullish(v.string()),
  empty_layer: v.nullish(v.boolean()),
});
const ConfigSchema = v.object({
  created: v.nullish(v.string()),
  author: v.nullish(v.string()),
  architecture: v.optional(v.string(), ''),
  os: v.optional(v.string(), ''),
  variant: v.nullish(v.string()),
  config: v.nullish(RunConfigSchema),
  rootfs: v.object({ type: v.literal('layers'), diff_ids: v.pipe(v.array(DigestSchema), v.maxLength(MAX_LAYERS)) }),
  history: v.nullish(v.array(HistorySchema)),
});

export type Descriptor = Readonly<v.InferOutput<typeof DescriptorSchema>>;
export type ImageManifest = Readonly<v.InferOutput<typeof ManifestSchema>>;
export type ImageManifestIndex = Readonly<v.InferOutput<typeof IndexSchema>>;
export type RunConfig = Readonly<v.InferOutput<typeof RunConfigSchema>>;
export type HistoryItem = Readonly<v.InferOutput<typeof HistorySchema>>;

/** An OCI image config; field names are the specification's. `config` is never null here. */
export interface ImageConfig {
  readonly created: string | undefined;
  readonly author: string | undefined;
  readonly architecture: string;
  readonly os: string;
  readonly variant: string | undefined;
  readonly config: RunConfig;
  readonly diffIds: readonly Digest[];
  readonly history: readonly HistoryItem[];
}

/** @throws manifest.invalid (invalid), naming every problem. */
export function parseJson<Schema extends v.GenericSchema>(
  schema: Schema,
  bytes: Uint8Array,
  what: string,
): v.InferOutput<Schema> {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (error) {
    throw new BerthError('invalid', 'manifest.invalid', `${what} is not JSON`, { cause: error });
  }
  const result = v.safeParse(schema, value);
  if (!result.success) {
    const problems = result.issues.slice(0, 10).map((issue) => `${v.getDotPath(issue) ?? 'it'}: ${issue.message}`);
    throw new BerthError('invalid', 'manifest.invalid', `${what} is not valid: ${problems.join('; ')}`);
  }
  return result.output;
}

/** A manifest or an index, told apart by what it holds: media types are not always there. */
export function parseManifestOrIndex(bytes: Uint8Array, what: string): ImageManifest | ImageManifestIndex {
  const shape = parseJson(
    v.object({ manifests: v.optional(v.unknown()), schemaVersion: v.optional(v.unknown()) }),
    bytes,
    what,
  );
  if (shape.schemaVersion === 1) {
    throw new BerthError(
      'unsupported',
      'manifest.schema1',
      `${what} has Docker's old schema 1, which is not supported`,
      {
        hint: 'push the image again with a current Docker or BuildKit',
      },
    );
  }
  return shape.manifests === undefined ? parseJson(ManifestSchema, bytes, what) : parseJson(IndexSchema, bytes, what);
}

export function isIndex(document: ImageManifest | ImageManifestIndex): document is ImageManifestIndex {
  return 'manifests' in document;
}

export function parseImageConfig(bytes: Uint8Array, what = "the image's config"): ImageConfig {
  const parsed = parseJson(ConfigSchema, bytes, what);
  return {
    created: parsed.created ?? undefined,
    author: parsed.author ?? undefined,
    architecture: parsed.architecture,
    os: parsed.os,
    variant: parsed.variant ?? undefined,
    config: parsed.config ?? {},
    diffIds: parsed.rootfs.diff_ids,
    history: parsed.history ?? [],
  };
}

/** @throws manifest.layers_mismatch (invalid) when manifest and config do not speak of the same layers. */
export function checkDescriptors(manifest: ImageManifest, config: ImageConfig): void {
  if (manifest.layers.length === config.diffIds.length) return;
  throw new BerthError(
    'invalid',
    'manifest.layers_mismatch',
    `the manifest has ${manifest.layers.length} layers, but the config names ${config.diffIds.length}`,
  );
}
