import { BerthError } from '#base';
import { sleep } from '#platform';
import { type FolderLock, lockFolder } from '#store';

/** How often a set-up that waits for another looks again. */
const LOOK_AGAIN_MS = 500;

/** The folder's lock as soon as its holder is done; `onWait` is called once when there is one. */
export async function lockWhenFree(folder: string, onWait: () => void): Promise<FolderLock> {
  for (let first = true; ; first = false) {
    try {
      return lockFolder(folder);
    } catch (error) {
      if (!(error instanceof BerthError) || error.code !== 'store.locked') throw error;
      if (first) onWait();
    }
    await sleep(LOOK_AGAIN_MS);
  }
}
