import { files } from '#platform';

/** A file of that many zeros which the user `uid` may write. */
export async function writeEmpty(path: string, bytes: number, uid: number | undefined): Promise<void> {
  const handle = await files.open(path, 'wx', 0o600);
  try {
    await handle.truncate(bytes);
    if (uid !== undefined && uid !== 0) await handle.chown(uid, uid);
  } finally {
    await handle.close();
  }
}
