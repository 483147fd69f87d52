import { posix } from 'node:path';
import { BerthError } from '#base';
import { files, runChecked } from '#platform';
import type { RunConfig } from './registry/manifest.ts';
import { tarEnd, tarFile, tarHeader } from './tar/tar-writer.ts';

/** Users and groups that programs expect to find; the same numbers as Debian's base-passwd. */
const PASSWD = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
`;
const GROUP = `root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
mail:x:8:
kmem:x:15:
wheel:x:10:root
cdrom:x:24:
dialout:x:18:
floppy:x:25:
www-data:x:33:
operator:x:37:
users:x:100:
nogroup:x:65534:
`;
/** Nobody has a password, and none can be guessed. */
const SHADOW = PASSWD.split('\n')
  .filter((line) => line !== '')
  .map((line) => `${line.split(':', 1)[0]}:*:10933:0:99999:7:::\n`)
  .join('');

const FOLDERS: readonly (readonly [path: string, mode: number])[] = [
  ['bin', 0o755],
  ['dev', 0o755],
  ['etc', 0o755],
  ['home', 0o755],
  ['mnt', 0o755],
  ['proc', 0o555],
  ['root', 0o700],
  ['run', 0o755],
  ['sbin', 0o755],
  ['sys', 0o555],
  ['tmp', 0o1777],
  ['usr', 0o755],
  ['usr/bin', 0o755],
  ['usr/sbin', 0o755],
  ['var', 0o755],
  ['var/log', 0o755],
  ['var/spool', 0o755],
  ['var/spool/mail', 0o755],
  ['var/tmp', 0o1777],
  ['var/www', 0o755],
];

export interface BuiltInContent {
  readonly tar: AsyncGenerator<Buffer>;
  readonly config: RunConfig;
}

/**
 * A small root file system around Debian's static busybox (package busybox-static): every applet a hard link, as in
 * Docker's own busybox image. The same program always gives the same tar.
 *
 * @throws busybox.unreadable (not_found) when the program is not there; process.failed (unavailable) when it does not run.
 */
export async function busyboxImage(options: { readonly busyboxPath: string }): Promise<BuiltInContent> {
  const { busyboxPath } = options;
  let program: Buffer;
  try {
    program = await files.readFile(busyboxPath);
  } catch (error) {
    throw new BerthError('not_found', 'busybox.unreadable', `cannot read the busybox program ${busyboxPath}`, {
      hint: 'install the package busybox-static',
      cause: error,
    });
  }
  const { stdout } = await runChecked([busyboxPath, '--list-full']);
  const applets = stdout
    .split('\n')
    .map((line) => posix.normalize(line.trim()))
    .filter((path) => /^[a-zA-Z0-9._[\]/+-]+$/.test(path) && path !== '.' && path !== 'bin/busybox')
    .filter((path) => !path.startsWith('/') && !path.startsWith('..'))
    .map((path) => (path.includes('/') ? path : `bin/${path}`));
  const config = { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: ['sh'] };
  return { tar: busyboxTar(program, [...new Set(applets)].sort()), config };
}

async function* busyboxTar(program: Buffer, applets: readonly string[]): AsyncGenerator<Buffer> {
  for (const [path, mode] of FOLDERS) yield tarHeader({ path, type: 'directory', mode });
  yield tarFile('etc/passwd', PASSWD);
  yield tarFile('etc/group', GROUP);
  yield tarFile('etc/shadow', SHADOW, { mode: 0o600 });
  yield tarFile('etc/nsswitch.conf', 'passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n');
  yield tarFile('etc/shells', '/bin/sh\n/bin/ash\n');
  yield tarFile('etc/profile', 'export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n');
  yield tarFile('bin/busybox', program, { mode: 0o755 });
  for (const path of applets) yield tarHeader({ path, type: 'hardlink', linkTarget: 'bin/busybox', mode: 0o755 });
  yield tarEnd();
}
