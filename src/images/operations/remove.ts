/** Taking names away, and images when the last one is gone: `docker rmi` and `docker image prune`. */
import { BerthError, type Digest, shortId } from '#base';
import {
  canonicalName,
  familiarName,
  familiarReference,
  type ImageReference,
  parseReference,
  repositoryOf,
} from '../registry/reference.ts';
import type { ImageRecord, IndexDraft } from '../store/image-index.ts';
import type { ImageStore } from '../store/image-store.ts';
import type {
  GarbageOptions,
  GarbageResult,
  ImageSummary,
  ImageUser,
  RemovedItem,
  RemoveOptions,
} from './image-types.ts';

/**
 * @throws images.not_found (not_found); images.in_use, images.many_references (conflict), with Docker's texts.
 */
export async function removeImage(store: ImageStore, name: string, options: RemoveOptions): Promise<RemovedItem[]> {
  return store.index.exclusively(async () => {
    const image = store.get(name);
    const users = options.inUseBy?.(image.id) ?? [];
    const isForced = options.force ?? false;
    const named = referenceIn(store, name, image.id);
    const removed = await store.index.mutateInside((draft) =>
      named === undefined
        ? removeById(draft, image, users, isForced)
        : removeReference(draft, image, { reference: named, users, isForced }),
    );
    await sweepAfter(store, removed);
    return removed;
  });
}

/** The name itself, when that is how the image was found; undefined for an id or a prefix. */
function referenceIn(store: ImageStore, name: string, id: Digest): ImageReference | undefined {
  let reference: ImageReference;
  try {
    reference = parseReference(name);
  } catch {
    return undefined;
  }
  if (reference.digest !== undefined) return reference.digest === id ? undefined : reference;
  return store.index.state.references.get(canonicalName(reference)) === id ? reference : undefined;
}

interface ReferenceRemoval {
  readonly reference: ImageReference;
  readonly users: readonly ImageUser[];
  readonly isForced: boolean;
}

function removeReference(draft: IndexDraft, image: ImageRecord, removal: ReferenceRemoval): RemovedItem[] {
  const { reference, users, isForced } = removal;
  const names = namesOf(draft, image.id);
  const shown = familiarReference(reference);
  const isLast = names.length <= 1;
  const user = users[0];
  if (isLast && user !== undefined && !isForced) {
    throw new BerthError(
      'conflict',
      'images.in_use',
      `conflict: unable to remove repository reference "${shown}" (must force) - container ${shortId(user.id)} is using its referenced image ${shortId(image.id)}`,
    );
  }
  const removed: RemovedItem[] = [];
  if (reference.digest === undefined) {
    draft.references.delete(canonicalName(reference));
    removed.push({ untagged: shown });
  }
  const repository = repositoryOf(reference);
  const isRepositoryGone = !namesOf(draft, image.id).some((name) => name.startsWith(`${repository}:`));
  if (isRepositoryGone || reference.digest !== undefined) removed.push(...dropRepoDigests(draft, image.id, repository));
  if (namesOf(draft, image.id).length > 0) return removed;
  // A VM still needs the layers: the image stays, without a name, until the VM is gone.
  if (user !== undefined) return removed;
  return [...removed, ...deleteImage(draft, image.id)];
}

function removeById(
  draft: IndexDraft,
  image: ImageRecord,
  users: readonly ImageUser[],
  isForced: boolean,
): RemovedItem[] {
  const short = shortId(image.id);
  const running = users.find(({ isRunning }) => isRunning);
  if (running !== undefined) {
    const message = `conflict: unable to delete ${short} (cannot be forced) - image is being used by running container ${shortId(running.id)}`;
    throw new BerthError('conflict', 'images.in_use', message);
  }
  const names = namesOf(draft, image.id);
  const repositories = new Set(names.map((name) => name.slice(0, name.lastIndexOf(':'))));
  if ((repositories.size > 1 || names.length > 1) && !isForced) {
    const message = `conflict: unable to delete ${short} (must be forced) - image is referenced in multiple repositories`;
    throw new BerthError('conflict', 'images.many_references', message);
  }
  const [stopped] = users;
  if (stopped !== undefined && !isForced) {
    const message = `conflict: unable to delete ${short} (must be forced) - image is being used by stopped container ${shortId(stopped.id)}`;
    throw new BerthError('conflict', 'images.in_use', message);
  }
  const removed: RemovedItem[] = [];
  for (const name of names) {
    draft.references.delete(name);
    removed.push({ untagged: familiarReference(parseReference(name)) });
  }
  removed.push(...dropRepoDigests(draft, image.id, undefined));
  if (stopped !== undefined) return removed;
  return [...removed, ...deleteImage(draft, image.id)];
}

function namesOf(draft: IndexDraft, id: Digest): string[] {
  return [...draft.references].filter(([, target]) => target === id).map(([name]) => name);
}

function dropRepoDigests(draft: IndexDraft, id: Digest, repository: string | undefined): RemovedItem[] {
  const image = draft.images.get(id);
  if (image === undefined) return [];
  const isGone = (name: string): boolean => repository === undefined || name.startsWith(`${repository}@`);
  draft.images.set(id, { ...image, repoDigests: image.repoDigests.filter((name) => !isGone(name)) });
  return image.repoDigests.filter(isGone).map((name) => ({ untagged: familiarName(name) }));
}

function deleteImage(draft: IndexDraft, id: Digest): RemovedItem[] {
  draft.images.delete(id);
  const kept = new Set([...draft.images.values()].flatMap(({ layers }) => layers));
  const removed: RemovedItem[] = [{ deleted: id }];
  for (const diffId of [...draft.layers.keys()].filter((layer) => !kept.has(layer))) {
    draft.layers.delete(diffId);
    removed.push({ deleted: diffId });
  }
  return removed;
}

async function sweepAfter(store: ImageStore, removed: readonly RemovedItem[]): Promise<number> {
  for (const item of removed) if ('deleted' in item) store.forgetConfig(item.deleted);
  return (await store.content.sweep(store.index.state)).freedBytes;
}

/**
 * Removes images that nothing uses, and every file that nothing names.
 *
 * @param summaries - what there is, for the caller's own filter.
 */
export async function collectGarbage(
  store: ImageStore,
  summaries: readonly ImageSummary[],
  options: GarbageOptions,
): Promise<GarbageResult> {
  return store.index.exclusively(async () => {
    const inUse = new Set(options.inUse?.() ?? []);
    const doomed = summaries.filter(
      (image) =>
        store.index.state.images.has(image.id) &&
        !inUse.has(image.id) &&
        (options.all === true || image.tags.length === 0) &&
        options.mayRemove?.(image) !== false,
    );
    const removed: RemovedItem[] = [];
    if (doomed.length > 0) {
      await store.index.mutateInside((draft) => {
        for (const { id } of doomed) {
          const names = namesOf(draft, id);
          // A name may have come since the list was made.
          if (names.length > 0 && options.all !== true) continue;
          for (const name of names) {
            draft.references.delete(name);
            removed.push({ untagged: familiarReference(parseReference(name)) });
          }
          removed.push(...dropRepoDigests(draft, id, undefined), ...deleteImage(draft, id));
        }
      });
    }
    return { removed, freedBytes: await sweepAfter(store, removed) };
  });
}
