/**
 * The initramfs of OCI guests: a "newc" cpio archive of the guest program and the kernel modules it loads. Pure.
 *
 * Uncompressed: unpacking costs the guest more than QEMU saves by reading less.
 *
 * @source Linux Documentation/driver-api/early-userspace/buffer-format.rst
 */
import { BerthError } from '#base';

export interface InitramfsEntry {
  /** Without a leading slash. Folders come before what lies in them. */
  readonly path: string;
  /** File type and permission bits, as in `stat`: 0o100755, 0o040755, 0o020600. */
  readonly mode: number;
  readonly data?: Uint8Array;
  /** Of a device node: major and minor. */
  readonly device?: readonly [number, number];
}

const FOLDER = 0o040755;
const PROGRAM = 0o100755;
const FILE = 0o100644;
const CHARACTER_DEVICE = 0o020600;

/** The archive's bytes. The same entries give the same bytes. */
export function packInitramfs(entries: readonly InitramfsEntry[]): Buffer {
  const parts: Buffer[] = [];
  const all = [...entries, { path: 'TRAILER!!!', mode: 0 }];
  for (const [index, entry] of all.entries()) {
    const data = entry.data ?? new Uint8Array();
    const [major, minor] = entry.device ?? [0, 0];
    const name = Buffer.from(`${entry.path}\0`);
    const links = (entry.mode & 0o170000) === 0o040000 ? 2 : 1;
    const numbers = [index + 1, entry.mode, 0, 0, links, 0, data.length, 0, 0, major, minor, name.length, 0];
    const header = `070701${numbers.map((value) => value.toString(16).padStart(8, '0')).join('')}`;
    parts.push(padded(Buffer.concat([Buffer.from(header), name])), padded(Buffer.from(data)));
  }
  return Buffer.concat(parts);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}

/**
 * Modules the guest program needs, in the order of its boot. All are loaded before it greets: a template holds the
 * drivers bound to the devices of the one layout, and its clones find them so.
 */
export const GUEST_MODULES: readonly string[] = [
  'virtio_pci',
  'virtio_mmio',
  'virtio_console',
  'erofs',
  'overlay',
  'virtio_blk',
  'virtio_net',
  // Tells the host which memory nobody uses any more.
  'virtio_balloon',
  // For closing the connections of a machine that goes on under another address.
  'tcp_diag',
];

/** What `depends=` in the module's own .modinfo names, hyphens as underscores: it writes both for the same module. */
export function moduleDependencies(module: Uint8Array): string[] {
  const bytes = Buffer.from(module.buffer, module.byteOffset, module.byteLength);
  const key = Buffer.from('\0depends=');
  const at = bytes.indexOf(key);
  if (at === -1) return [];
  const start = at + key.length;
  const text = bytes.toString('latin1', start, bytes.indexOf(0, start));
  return text === '' ? [] : text.split(',').map((name) => name.replaceAll('-', '_'));
}

const SIGNATURE_MAGIC = Buffer.from('~Module signature appended~\n');
/** struct module_signature: its last four bytes are the signature's length, big-endian. */
const SIGNATURE_INFO_BYTES = 12;

/**
 * The module without its appended signature. berth loads the modules of one kernel package it has verified; checking
 * an RSA signature per module is the slowest part of loading it under TCG.
 */
export function withoutSignature(module: Buffer): Buffer {
  const magicAt = module.length - SIGNATURE_MAGIC.length;
  if (magicAt < SIGNATURE_INFO_BYTES || !module.subarray(magicAt).equals(SIGNATURE_MAGIC)) return module;
  const infoAt = magicAt - SIGNATURE_INFO_BYTES;
  const length = module.readUInt32BE(magicAt - 4);
  return length > infoAt ? module : module.subarray(0, infoAt - length);
}

/**
 * Names in loading order, each after what it depends on, each once.
 *
 * @param load - the module's bytes by name, with underscores; undefined when it is built in or absent.
 */
export function orderModules(
  wanted: readonly string[],
  load: (name: string) => Buffer | undefined,
): { order: string[]; modules: Map<string, Buffer> } {
  const modules = new Map<string, Buffer>();
  const order: string[] = [];
  const add = (name: string, above: readonly string[]): void => {
    if (modules.has(name)) return;
    if (above.includes(name)) {
      throw new BerthError('invalid', 'modules.circle', `kernel modules depend in a circle: ${above.join(' → ')}`);
    }
    const module = load(name);
    if (module === undefined) return;
    for (const dependency of moduleDependencies(module)) add(dependency, [...above, name]);
    modules.set(name, withoutSignature(module));
    order.push(name);
  };
  for (const name of wanted) add(name, []);
  return { order, modules };
}

/** The whole archive from the guest program and the kernel's modules. */
export function buildInitramfs(guestProgram: Uint8Array, load: (name: string) => Buffer | undefined): Buffer {
  const { order, modules } = orderModules(GUEST_MODULES, load);
  return packInitramfs([
    { path: 'dev', mode: FOLDER },
    // The kernel opens it as standard streams of PID 1, and complains on the console when it is missing.
    { path: 'dev/console', mode: CHARACTER_DEVICE, device: [5, 1] },
    { path: 'init', mode: PROGRAM, data: guestProgram },
    { path: 'modules', mode: FOLDER },
    ...order.map((name) => ({ path: `modules/${name}`, mode: FILE, data: modules.get(name) ?? new Uint8Array() })),
    { path: 'modules/order', mode: FILE, data: Buffer.from(`${order.join('\n')}\n`) },
  ]);
}
