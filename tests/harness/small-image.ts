/** Images for tests, from programs of this host: busybox, whatever dynamic programs are named, and own files. */
import { readFileSync, realpathSync } from 'node:fs';
import { runChecked } from '#platform';
import { tarEnd, tarFile, tarHeader } from '../../src/images/tar/tar-writer.ts';

const APPLETS = ['sh', 'cat', 'head', 'od', 'ls', 'hostname', 'sleep', 'tr', 'ip', 'echo'];
const FOLDERS = ['bin', 'dev', 'etc', 'lib', 'lib64', 'proc', 'sys', 'tmp', 'usr', 'usr/bin'];

export interface ImageContent {
  /** Host programs with the libraries they need. */
  readonly programs?: readonly string[];
  /** Path in the image → content and whether it can be run. */
  readonly files?: Readonly<Record<string, { readonly content: string | Uint8Array; readonly mode?: number }>>;
}

/** A root file system as a tar, for `docker import`. */
export async function smallImage({ programs = [], files = {} }: ImageContent): Promise<Buffer> {
  const parts = FOLDERS.map((path) => tarHeader({ path, type: 'directory', mode: path === 'tmp' ? 0o1777 : 0o755 }));
  parts.push(tarFile('bin/busybox', readFileSync('/bin/busybox'), { mode: 0o755 }));
  for (const name of APPLETS) parts.push(tarHeader({ path: `bin/${name}`, type: 'symlink', linkTarget: 'busybox' }));
  parts.push(tarFile('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\n'));
  const known = new Set<string>(FOLDERS);
  const add = (path: string, content: Uint8Array | string, mode: number): void => {
    const words = path.split('/');
    for (let count = 1; count < words.length; count += 1) {
      const folder = words.slice(0, count).join('/');
      if (!known.has(folder)) parts.push(tarHeader({ path: folder, type: 'directory' }));
      known.add(folder);
    }
    if (!known.has(path)) parts.push(tarFile(path, content, { mode }));
    known.add(path);
  };
  for (const program of programs) {
    const { stdout } = await runChecked(['ldd', program]);
    for (const path of [program, ...(stdout.match(/\/\S+(?= \(0x)/g) ?? [])])
      add(path.slice(1), readFileSync(realpathSync(path)), 0o755);
  }
  for (const [path, { content, mode }] of Object.entries(files)) add(path, content, mode ?? 0o644);
  return Buffer.concat([...parts, tarEnd()]);
}
