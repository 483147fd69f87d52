import { files } from '#platform';

/** Where programs of the system lie that PATH may lack. */
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** The program's path, or undefined when it is not installed. PATH comes first. */
export async function findProgram(
  name: string,
  env: Readonly<Record<string, string | undefined>>,
): Promise<string | undefined> {
  const folders = [...(env['PATH'] ?? '').split(':').filter((folder) => folder.startsWith('/')), ...SYSTEM_FOLDERS];
  for (const folder of folders) {
    const path = `${folder}/${name}`;
    try {
      await files.access(path, files.fsConstants.X_OK);
      return path;
    } catch {
      // Not in this folder: the next one is looked at.
    }
  }
  return undefined;
}
