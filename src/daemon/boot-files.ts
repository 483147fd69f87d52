import { createHash } from 'node:crypto';
import { files } from '#platform';
import type { Installation } from '#setup';

export interface BootFiles {
  readonly kernel: string;
  readonly initramfs: string;
  readonly guestKernel: string;
}

/** Removes kernels of earlier set-ups and half-made copies: QEMU reads its kernel once, when it starts. */
export async function sweepBootFiles(current: BootFiles, stateFolder: string): Promise<void> {
  for (const name of await files.readdir(`${stateFolder}/boot`)) {
    const folder = `${stateFolder}/boot/${name}`;
    if (!current.kernel.startsWith(`${folder}/`)) await files.rm(folder, { recursive: true, force: true });
  }
}

/**
 * The kernel and initramfs where an unprivileged QEMU can read them: a checkout may lie in a home folder that others
 * cannot enter. One folder per content, so that VMs started from older files keep theirs.
 */
export async function publishBootFiles(installation: Installation, stateFolder: string): Promise<BootFiles> {
  const hash = createHash('sha256');
  for (const path of [installation.kernel, installation.initramfs]) {
    const facts = await files.stat(path);
    hash.update(`${facts.size}:${facts.mtimeMs}\n`);
  }
  const folder = `${stateFolder}/boot/${hash.digest('hex').slice(0, 16)}`;
  const guestKernel = (await files.readFile(installation.kernelRelease, 'utf8')).trim();
  const published = { kernel: `${folder}/vmlinux`, initramfs: `${folder}/initramfs.cpio`, guestKernel };
  if (await files.exists(folder)) return published;
  const aside = files.asideName(folder);
  await files.mkdir(aside, { recursive: true, mode: 0o755 });
  try {
    const reflink = files.fsConstants.COPYFILE_FICLONE;
    await files.copyFile(installation.kernel, `${aside}/vmlinux`, reflink);
    await files.copyFile(installation.initramfs, `${aside}/initramfs.cpio`, reflink);
    for (const name of ['vmlinux', 'initramfs.cpio']) await files.chmod(`${aside}/${name}`, 0o644);
    await files.rename(aside, folder);
  } catch (error) {
    await files.rm(aside, { recursive: true, force: true });
    throw error;
  }
  return published;
}
