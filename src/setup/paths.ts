import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * The checkout berth runs from, and what set-up makes in it. The bundled CLI lies in `.build/`, the source two folders
 * deeper, so the root is found by its package.json rather than counted.
 */
export interface Installation {
  readonly root: string;
  readonly build: string;
  readonly kernel: string;
  readonly kernelRelease: string;
  readonly modules: string;
  readonly initramfs: string;
  readonly guestProgram: string;
  readonly launcher: string;
  readonly cli: string;
  /** Written last: newer than every source when nothing is to do. */
  readonly ready: string;
}

export function installationAt(root: string): Installation {
  const build = `${root}/.build`;
  return {
    root,
    build,
    kernel: `${build}/kernel/vmlinux`,
    kernelRelease: `${build}/kernel/release`,
    modules: `${build}/kernel/modules`,
    initramfs: `${build}/initramfs.cpio`,
    guestProgram: `${build}/guest-init`,
    launcher: `${build}/berth-launch`,
    cli: `${build}/cli.mjs`,
    ready: `${build}/ready`,
  };
}

/** The installation this program belongs to. */
export function thisInstallation(): Installation {
  const here = dirname(fileURLToPath(import.meta.url));
  return installationAt(here.endsWith('/.build') ? dirname(here) : resolve(here, '../..'));
}
