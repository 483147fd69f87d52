import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BerthError } from '#base';
import { runChecked } from '#platform';
import { buildInitramfs } from '#setup';

export interface GuestArtifacts {
  readonly kernel: string;
  readonly initramfs: string;
}

const CHECKOUT = new URL('../..', import.meta.url).pathname;

/**
 * A kernel and an initramfs with the guest program, built into `.build/` of the checkout.
 *
 * BERTH_TEST_KERNEL names an uncompressed vmlinux, BERTH_TEST_MODULES its /lib/modules/VERSION folder.
 *
 * @throws test.environment (unavailable) when one of the two is not set or not there.
 */
export async function guestArtifacts(): Promise<GuestArtifacts> {
  const kernel = fromEnvironment('BERTH_TEST_KERNEL');
  const modules = fromEnvironment('BERTH_TEST_MODULES');
  const out = join(CHECKOUT, '.build', 'guest');
  mkdirSync(out, { recursive: true });
  await runChecked(['make', '--silent', '-C', join(CHECKOUT, 'guest'), `OUT=${out}`]);
  const found = new Map<string, string>();
  for (const entry of readdirSync(modules, { recursive: true, withFileTypes: true })) {
    if (entry.name.endsWith('.ko')) found.set(moduleName(entry.name), join(entry.parentPath, entry.name));
  }
  const initramfs = join(out, 'initramfs.cpio');
  const archive = buildInitramfs(readFileSync(join(out, 'berth-guest')), (name) => {
    const path = found.get(name);
    return path === undefined ? undefined : readFileSync(path);
  });
  writeFileSync(initramfs, archive);
  return { kernel, initramfs };
}

function moduleName(file: string): string {
  return file.replace(/\.ko$/, '').replaceAll('-', '_');
}

function fromEnvironment(name: string): string {
  const path = process.env[name];
  if (path === undefined || !existsSync(path)) {
    throw new BerthError('unavailable', 'test.environment', `${name} must name an existing path, it is ${path}`, {
      hint: 'unpack a linux-image-cloud package and point the variable into it',
    });
  }
  return path;
}
