import { files } from '#platform';
import { buildInitramfs, GUEST_MODULES, moduleDependencies } from './initramfs.ts';
import type { Installation } from './paths.ts';

/** Builds the initramfs from the compiled guest program and the fetched kernel's modules. */
export async function writeInitramfs(installation: Installation): Promise<void> {
  const paths = await modulePaths(installation.modules);
  const loaded = new Map<string, Buffer>();
  const load = async (name: string): Promise<void> => {
    const path = paths.get(name);
    if (path === undefined || loaded.has(name)) return;
    const bytes = await files.readFile(path);
    loaded.set(name, bytes);
    for (const dependency of moduleDependencies(bytes)) await load(dependency);
  };
  for (const name of GUEST_MODULES) await load(name);
  const archive = buildInitramfs(await files.readFile(installation.guestProgram), (name) => loaded.get(name));
  await files.writeFileAtomic(installation.initramfs, archive, 0o644);
}

/** Module name (with underscores) → file. */
async function modulePaths(folder: string): Promise<Map<string, string>> {
  const paths = new Map<string, string>();
  for (const entry of await files.readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.ko')) continue;
    paths.set(entry.name.slice(0, -3).replaceAll('-', '_'), `${entry.parentPath}/${entry.name}`);
  }
  return paths;
}
