import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * The checkout berth runs from, and what set-up makes in it. Source and bundle both lie
 * two folders below the root.
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
  /** Keeps and copies guests' memory. */
  readonly memoryProgram: string;
  /** Makes twins of machines; undefined on processors it does not know. */
  readonly twinProgram: string | undefined;
  /** Prints plain `berth ps` without Node. */
  readonly fastList: string;
  /** Folder of the bundled command line; `main.cjs` starts it. */
  readonly cli: string;
  /** Folder of the bundled daemon. */
  readonly daemonFolder: string;
  /** The daemon's program in it. */
  readonly daemon: string;
  /** The program that reckons for it. */
  readonly moneyProgram: string;
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
    memoryProgram: `${build}/berth-memory`,
    twinProgram: process.arch === 'x64' ? `${build}/berth-twin` : undefined,
    fastList: `${build}/berth-ps`,
    cli: `${build}/cli`,
    daemonFolder: `${build}/daemon`,
    daemon: `${build}/daemon/main.mjs`,
    moneyProgram: `${build}/daemon/money.mjs`,
    ready: `${build}/ready`,
  };
}

/** The installation this program belongs to. */
export function thisInstallation(): Installation {
  // `ROOT/src/setup/paths.ts` or `ROOT/.build/cli/program.cjs`: both lie two folders below the root.
  return installationAt(resolve(dirname(fileURLToPath(import.meta.url)), '../..'));
}
