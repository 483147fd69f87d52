/**
 * What the tests' Xen is made of: Debian's own packages, unpacked beside the checkout's other build products. Nothing is
 * installed on this machine, whose boot stays as it is.
 */
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { runChecked } from '#platform';
import { thisInstallation } from '#setup';
import { type InitramfsEntry, orderModules, packInitramfs } from '../../../src/setup/initramfs.ts';

const CHECKOUT = new URL('../../..', import.meta.url).pathname;
const SOURCES = new URL('.', import.meta.url).pathname;
const DOWNLOAD_DEADLINE_MS = 10 * 60_000;

const XEN = 'xen-hypervisor-4.17-amd64';
/** What xl, xenstored and dropbear need to run, and nothing else: the whole of xen-utils would bring Python and Perl. */
const DOM0_PACKAGES = [
  'xen-utils-4.17',
  'xen-utils-common',
  'xenstore-utils',
  'dropbear-bin',
  'busybox-static',
  'libc6',
  'libgcc-s1',
  'libncurses6',
  'libtinfo6',
  'libxencall1',
  'libxenevtchn1',
  'libxenforeignmemory1',
  'libxengnttab1',
  'libxenmisc4.17',
  'libxenstore4',
  'libxentoollog1',
  'libxentoolcore1',
  'libxendevicemodel1',
  'libxenhypfs1',
  'libyajl2',
  'libuuid1',
  'libbz2-1.0',
  'liblzma5',
  'libzstd1',
  'zlib1g',
  'libtomcrypt1',
  'libtommath1',
  'libgmp10',
  'libcrypt1',
];
/** Not read by anybody here, and most of the size. */
const LEFT_OUT =
  /^usr\/share\/|^usr\/lib\/x86_64-linux-gnu\/gconv|^usr\/lib\/xen-4\.17\/(boot|lib\/python)|^usr\/bin\/xenalyze/;

const DOM0_MODULES = [
  'e1000',
  'bridge',
  'brd',
  'xenfs',
  'xen_privcmd',
  'xen_evtchn',
  'xen_gntdev',
  'xen_gntalloc',
  'xen_netback',
  'xen_blkback',
];
/** Four disks of 16 MiB in memory: /dev/ram0 to /dev/ram3. */
const MODULE_OPTIONS: Readonly<Record<string, string>> = { brd: 'rd_nr=4 rd_size=16384' };
const GUEST_MODULES = ['xen_blkfront', 'xen_netfront'];

export interface XenImage {
  readonly xen: string;
  readonly kernel: string;
  /** dom0's initramfs; more of it may be appended. */
  readonly dom0: string;
}

/** Made once for each state of its sources and kept: some 90 MB to download, 100 MB on disk. */
export async function xenImage(): Promise<XenImage> {
  const folder = join(CHECKOUT, '.build/tests/xen');
  const image = { xen: join(folder, 'xen'), kernel: join(folder, 'vmlinuz'), dom0: join(folder, 'dom0.cpio') };
  const stamp = join(folder, 'inputs');
  const digest = digestOfSources();
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return image;
  const aside = `${folder}.tmp`;
  rmSync(aside, { recursive: true, force: true });
  mkdirSync(aside, { recursive: true });
  await make(aside);
  writeFileSync(join(aside, 'inputs'), digest);
  rmSync(folder, { recursive: true, force: true });
  renameSync(aside, folder);
  return image;
}

function digestOfSources(): string {
  const hash = createHash('sha256');
  for (const name of readdirSync(SOURCES).sort()) hash.update(`${name}\0`).update(readFileSync(join(SOURCES, name)));
  return hash.digest('hex');
}

async function make(folder: string): Promise<void> {
  const kernelPackage = await kernelPackageName();
  const debs = join(folder, 'debs');
  mkdirSync(debs);
  const names = [XEN, kernelPackage, ...DOM0_PACKAGES];
  await runChecked(['apt-get', 'download', '-q', ...names], { cwd: debs, deadlineMs: DOWNLOAD_DEADLINE_MS });
  for (const archive of readdirSync(debs)) {
    const target = archive.startsWith(XEN) ? 'hypervisor' : archive.startsWith('linux-image') ? 'linux' : 'root';
    await runChecked(['dpkg-deb', '-x', join(debs, archive), join(folder, target)]);
  }
  const boot = (part: string, prefix: string): string => {
    const found = readdirSync(join(folder, part, 'boot')).find((name) => name.startsWith(prefix));
    if (found === undefined) throw new Error(`no ${prefix}* in ${part}/boot`);
    return join(folder, part, 'boot', found);
  };
  const hypervisor = readdirSync(join(folder, 'hypervisor/boot')).find((name) => name.endsWith('.gz'));
  if (hypervisor === undefined) throw new Error(`${XEN} holds no compressed hypervisor`);
  writeFileSync(join(folder, 'xen'), gunzipSync(readFileSync(join(folder, 'hypervisor/boot', hypervisor))));
  renameSync(boot('linux', 'vmlinuz-'), join(folder, 'vmlinuz'));
  const modules = moduleFiles(join(folder, 'linux/lib/modules'));
  // berth's own guest kernel, uncompressed: xl takes five seconds to unpack a compressed one for each guest.
  const { kernel: guestKernel, modules: guestModules } = thisInstallation();
  const guest = packInitramfs(guestEntries(join(folder, 'root'), moduleFiles(guestModules)));
  writeFileSync(
    join(folder, 'dom0.cpio'),
    packInitramfs(dom0Entries(join(folder, 'root'), { modules, kernel: readFileSync(guestKernel), guest })),
  );
  for (const name of ['debs', 'hypervisor', 'linux', 'root']) rmSync(join(folder, name), { recursive: true });
}

/** The package behind the meta package. @throws when apt's lists are older than the archive: `apt-get update`. */
async function kernelPackageName(): Promise<string> {
  const { stdout } = await runChecked(['apt-cache', 'depends', '--important', 'linux-image-amd64']);
  const name = /Depends:\s+(linux-image-\S+)/.exec(stdout)?.[1];
  if (name === undefined) throw new Error('apt knows no package linux-image-amd64');
  return name;
}

function moduleFiles(folder: string): ReadonlyMap<string, string> {
  const found = readdirSync(folder, { recursive: true, withFileTypes: true });
  return new Map(
    found
      .filter((entry) => entry.isFile() && entry.name.endsWith('.ko'))
      .map((entry) => [entry.name.slice(0, -3).replaceAll('-', '_'), join(entry.parentPath, entry.name)]),
  );
}

const FOLDER = 0o040755;
const PROGRAM = 0o100755;
const FILE = 0o100644;
const LINK = 0o120777;

function moduleEntries(wanted: readonly string[], paths: ReadonlyMap<string, string>): InitramfsEntry[] {
  const load = (name: string): Buffer | undefined => {
    const path = paths.get(name);
    return path === undefined ? undefined : readFileSync(path);
  };
  for (const name of wanted) if (!paths.has(name)) throw new Error(`the kernel has no module ${name}`);
  const { order, modules } = orderModules(wanted, load);
  const lines = order.map((name) => `${name} ${MODULE_OPTIONS[name] ?? ''}\n`).join('');
  return [
    { path: 'modules', mode: FOLDER },
    ...order.map((name) => ({ path: `modules/${name}.ko`, mode: FILE, data: modules.get(name) ?? Buffer.alloc(0) })),
    { path: 'modules/order', mode: FILE, data: Buffer.from(lines) },
  ];
}

const source = (name: string): Buffer => readFileSync(join(SOURCES, name));
const folders = (...paths: readonly string[]): InitramfsEntry[] => paths.map((path) => ({ path, mode: FOLDER }));
const console: InitramfsEntry = { path: 'dev/console', mode: 0o020600, device: [5, 1] };

function guestEntries(root: string, modules: ReadonlyMap<string, string>): InitramfsEntry[] {
  return [
    ...folders('bin', 'sbin', 'dev', 'proc'),
    console,
    { path: 'bin/busybox', mode: PROGRAM, data: readFileSync(join(root, 'bin/busybox')) },
    { path: 'bin/sh', mode: LINK, data: Buffer.from('busybox') },
    { path: 'init', mode: PROGRAM, data: source('guest-init.sh') },
    { path: 'sbin/poweroff', mode: PROGRAM, data: source('guest-off.sh') },
    { path: 'sbin/reboot', mode: PROGRAM, data: source('guest-off.sh') },
    ...moduleEntries(GUEST_MODULES, modules),
  ];
}

function dom0Entries(
  root: string,
  parts: { readonly modules: ReadonlyMap<string, string>; readonly kernel: Buffer; readonly guest: Buffer },
): InitramfsEntry[] {
  const known = new Set<string>();
  const own: InitramfsEntry[] = [
    ...folders('dev', 'proc', 'sys', 'root', 'root/.ssh', 'etc/dropbear', 'guest'),
    console,
    { path: 'init', mode: PROGRAM, data: source('dom0-init.sh') },
    { path: 'etc/passwd', mode: FILE, data: Buffer.from('root:x:0:0:root:/root:/bin/sh\n') },
    { path: 'etc/group', mode: FILE, data: Buffer.from('root:x:0:\n') },
    { path: 'etc/shadow', mode: 0o100600, data: Buffer.from('root:*:19000:0:99999:7:::\n') },
    { path: 'etc/xen/scripts/berth-block', mode: PROGRAM, data: source('block-script.sh') },
    { path: 'etc/xen/scripts/berth-vif', mode: PROGRAM, data: source('vif-script.sh') },
    { path: 'bin/sh', mode: LINK, data: Buffer.from('busybox') },
    { path: 'guest/kernel', mode: FILE, data: parts.kernel },
    { path: 'guest/initramfs', mode: FILE, data: parts.guest },
    ...moduleEntries(DOM0_MODULES, parts.modules),
  ];
  const entries = [...filesUnder(root), ...own].filter(({ path }) => !LEFT_OUT.test(path));
  // A folder comes before what lies in it, and once.
  return entries.filter(({ path, mode }) => {
    const isNew = !known.has(path);
    known.add(path);
    return isNew || mode !== FOLDER;
  });
}

function filesUnder(root: string, inside = ''): InitramfsEntry[] {
  return readdirSync(join(root, inside), { withFileTypes: true }).flatMap((entry): InitramfsEntry[] => {
    const path = inside === '' ? entry.name : `${inside}/${entry.name}`;
    const full = join(root, path);
    if (entry.isDirectory()) return [{ path, mode: FOLDER }, ...filesUnder(root, path)];
    if (entry.isSymbolicLink()) return [{ path, mode: LINK, data: Buffer.from(readlinkSync(full)) }];
    return entry.isFile() ? [{ path, mode: PROGRAM, data: readFileSync(full) }] : [];
  });
}
