/** Extended attributes inside an inode. Source: Linux 6.1 fs/erofs/erofs_fs.h, `erofs_xattr_entry`. */
import { BerthError } from '#base';
import { alignUp, XATTR_HEADER_BYTES } from './erofs-format.ts';

/** The name prefixes that EROFS numbers. The ACL ones are whole names; their value is the kernel's xattr form. */
const PREFIXES: readonly (readonly [prefix: string, index: number])[] = [
  ['system.posix_acl_access', 2],
  ['system.posix_acl_default', 3],
  ['user.', 1],
  ['trusted.', 4],
  ['security.', 6],
];

const NONE = Buffer.alloc(0);

/** Linux holds one attribute's value to 64 KiB (XATTR_SIZE_MAX) and EROFS to 16 bits; all of a file's are held to 128 KiB. */
const VALUE_MAX_BYTES = 0xffff;
const TOTAL_MAX_BYTES = 128 * 1024;

export const OPAQUE_XATTR = 'trusted.overlay.opaque';

/**
 * Whether an image may bring this attribute. Names outside the known prefixes mean nothing to a guest's EROFS.
 * `trusted.overlay.*` is overlayfs's own bookkeeping: an image that forged a redirect or an opaque mark could show one
 * layer's files where another's belong, so it is dropped and only the writer sets it.
 */
export function isCarriedXattr(name: string): boolean {
  if (name.startsWith('trusted.overlay.')) return false;
  return PREFIXES.some(([prefix]) =>
    prefix.endsWith('.') ? name.startsWith(prefix) && name !== prefix : name === prefix,
  );
}

/** @throws erofs.xattr_too_large (invalid) when a name, a value or all together exceed what EROFS can carry. */
export function encodeXattrs(xattrs: ReadonlyMap<string, Buffer>): Buffer {
  if (xattrs.size === 0) return NONE;
  const parts: Buffer[] = [Buffer.alloc(XATTR_HEADER_BYTES)];
  let total = XATTR_HEADER_BYTES;
  // Sorted, so that the same attributes always give the same bytes.
  for (const name of [...xattrs.keys()].sort()) {
    const value = xattrs.get(name) ?? NONE;
    const [prefix, index] = PREFIXES.find(([candidate]) => name.startsWith(candidate)) ?? ['', 0];
    const suffix = Buffer.from(name.slice(prefix.length), 'latin1');
    const entry = Buffer.alloc(alignUp(4 + suffix.length + value.length, 4));
    total += entry.length;
    if (suffix.length > 255 || value.length > VALUE_MAX_BYTES || total > TOTAL_MAX_BYTES) {
      throw new BerthError(
        'invalid',
        'erofs.xattr_too_large',
        `the extended attribute ${JSON.stringify(name.slice(0, 100))} of ${value.length} bytes is larger than a layer can carry`,
      );
    }
    entry[0] = suffix.length;
    entry[1] = index;
    entry.writeUInt16LE(value.length, 2);
    suffix.copy(entry, 4);
    value.copy(entry, 4 + suffix.length);
    parts.push(entry);
  }
  return total === XATTR_HEADER_BYTES ? NONE : Buffer.concat(parts, total);
}

/** The reverse of `encodeXattrs`; `bytes` begins with the header. Entries that reach past the end are not believed. */
export function decodeXattrs(bytes: Buffer): Map<string, Buffer> {
  const xattrs = new Map<string, Buffer>();
  let at = XATTR_HEADER_BYTES;
  while (at + 4 <= bytes.length) {
    const nameLength = bytes.readUInt8(at);
    const index = bytes.readUInt8(at + 1);
    const valueStart = at + 4 + nameLength;
    const end = valueStart + bytes.readUInt16LE(at + 2);
    const prefix = PREFIXES.find(([, number]) => number === index)?.[0];
    if (end > bytes.length || prefix === undefined) break;
    xattrs.set(prefix + bytes.toString('latin1', at + 4, valueStart), Buffer.from(bytes.subarray(valueStart, end)));
    at = alignUp(end, 4);
  }
  return xattrs;
}
