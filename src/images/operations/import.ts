import { BerthError, type Digest } from '#base';
import { nowMs } from '#platform';
import type { RunConfig } from '../registry/manifest.ts';
import { hostPlatform, parsePlatform } from '../registry/platform-choice.ts';
import { canonicalName, parseReference } from '../registry/reference.ts';
import type { ImageStore } from '../store/image-store.ts';
import { applyChanges } from './changes.ts';
import type { ImportOptions } from './image-types.ts';

/** One tar as an image of one layer. */
export async function importImage(
  store: ImageStore,
  tar: AsyncIterable<Buffer>,
  options: ImportOptions & { readonly config?: RunConfig },
): Promise<Digest> {
  const reference = options.reference === undefined ? undefined : parseReference(options.reference);
  if (reference?.digest !== undefined) {
    throw new BerthError('invalid', 'reference.invalid', 'cannot import digest reference');
  }
  const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform);
  const run = applyChanges(options.config ?? {}, options.changes ?? []);
  const created = new Date(options.createdAtMs ?? nowMs()).toISOString();
  const lease = store.content.lease();
  try {
    const layer = await store.content.addLayer(
      { source: tar, ...(options.signal === undefined ? {} : { signal: options.signal }) },
      lease,
    );
    const config = {
      architecture: platform.architecture,
      ...(platform.variant === undefined ? {} : { variant: platform.variant }),
      os: platform.os,
      created,
      config: run,
      rootfs: { type: 'layers', diff_ids: [layer.diffId] },
      history: [{ created, comment: options.message ?? 'Imported from -' }],
    };
    const id = await store.content.addBlob(Buffer.from(JSON.stringify(config)), lease);
    const references = reference === undefined ? [] : [canonicalName(reference)];
    await store.commit({ id, layers: [layer.diffId], repoDigests: [], references });
    return id;
  } finally {
    lease.release();
  }
}
