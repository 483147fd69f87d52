/**
 * EROFS on disk, the part berth uses: uncompressed, extended inodes, inline extended attributes, 4 KiB blocks.
 *
 *     block 0:  1024 superblock (128 bytes) · 1152 root inode (nid 36)
 *     then:     file data and blocks of packed inodes, in the order of the tar
 *     end:      blocks of directory inodes, then directory data
 *
 * `meta_blkaddr` is 0, so an inode's number (nid) is its byte offset / 32. Everything here is understood by Linux 5.4
 * and later: feature_incompat is 0.
 *
 * Source: Linux 6.1 fs/erofs/erofs_fs.h; Documentation/filesystems/erofs.rst.
 */
export const BLOCK_BYTES = 4096;
export const SLOT_BYTES = 32;
export const SUPERBLOCK_OFFSET = 1024;
export const SUPERBLOCK_BYTES = 128;
export const EROFS_MAGIC = 0xe0f5e1e2;
export const FEATURE_COMPAT_CHECKSUM = 1;
export const INODE_BYTES = 64;
export const ROOT_OFFSET = SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES;
/** `root_nid` is 16 bits wide, so the root inode must stand near the beginning. */
export const ROOT_NID = ROOT_OFFSET / SLOT_BYTES;
export const XATTR_HEADER_BYTES = 12;
export const DIRENT_BYTES = 12;

/** i_format: bit 0 set for the extended inode, bits 1–3 the layout. */
export const FORMAT_PLAIN = 0b0001;
export const FORMAT_INLINE = 0b0101;

/** File kinds of st_mode. Source: inode(7). */
export const S_IFIFO = 0o010000;
export const S_IFCHR = 0o020000;
export const S_IFDIR = 0o040000;
export const S_IFBLK = 0o060000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;
export const S_IFSOCK = 0o140000;
export const S_IFMT = 0o170000;

/** The type byte of a directory entry (EROFS_FT_*), by st_mode's kind. */
export function direntType(mode: number): number {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return 1;
    case S_IFDIR:
      return 2;
    case S_IFCHR:
      return 3;
    case S_IFBLK:
      return 4;
    case S_IFIFO:
      return 5;
    case S_IFSOCK:
      return 6;
    case S_IFLNK:
      return 7;
    default:
      return 0;
  }
}

/** A device number as the kernel's `new_encode_dev` packs it: 12 bits of major, 20 of minor. */
export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)) >>> 0;
}

export function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

/** What an inode says of itself, before its place and its data are known. */
export interface InodeAttributes {
  /** st_mode: kind and permissions. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  /** As `encodeXattrs` made it: empty when there are none. */
  readonly xattrs: Buffer;
}

export interface InodePlace {
  readonly format: typeof FORMAT_PLAIN | typeof FORMAT_INLINE;
  readonly sizeBytes: number;
  /** The first data block, or the device number of a device. */
  readonly blockOrDevice: number;
  readonly inodeNumber: number;
  readonly linkCount: number;
}

export const LINK_COUNT_OFFSET = 44;

/** Writes the 64 bytes and the extended attributes at `at`. */
export function encodeInode(target: Buffer, at: number, attributes: InodeAttributes, place: InodePlace): void {
  const { xattrs } = attributes;
  target.fill(0, at, at + INODE_BYTES);
  target.writeUInt16LE(place.format, at);
  target.writeUInt16LE(xattrs.length === 0 ? 0 : 1 + (xattrs.length - XATTR_HEADER_BYTES) / 4, at + 2);
  target.writeUInt16LE(attributes.mode, at + 4);
  writeUInt64(target, place.sizeBytes, at + 8);
  target.writeUInt32LE(place.blockOrDevice, at + 16);
  target.writeUInt32LE(place.inodeNumber, at + 20);
  target.writeUInt32LE(attributes.uid, at + 24);
  target.writeUInt32LE(attributes.gid, at + 28);
  target.writeBigInt64LE(BigInt(attributes.mtimeSeconds), at + 32);
  target.writeUInt32LE(attributes.mtimeNanoseconds, at + 40);
  target.writeUInt32LE(place.linkCount, at + LINK_COUNT_OFFSET);
  xattrs.copy(target, at + INODE_BYTES);
}

export function writeUInt64(target: Buffer, value: number, at: number): void {
  target.writeUInt32LE(value % 2 ** 32, at);
  target.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

export function readUInt64(source: Buffer, at: number): number {
  return source.readUInt32LE(at + 4) * 2 ** 32 + source.readUInt32LE(at);
}

export interface SuperblockFacts {
  readonly inodeCount: number;
  readonly blockCount: number;
}

/** Fills in the superblock and its checksum. `block` is block 0, its root inode already there. */
export function encodeSuperblock(block: Buffer, facts: SuperblockFacts): void {
  const at = SUPERBLOCK_OFFSET;
  block.fill(0, at, at + SUPERBLOCK_BYTES);
  block.writeUInt32LE(EROFS_MAGIC, at);
  block.writeUInt32LE(FEATURE_COMPAT_CHECKSUM, at + 8);
  block[at + 12] = 12; // log2 of the block size
  block.writeUInt16LE(ROOT_NID, at + 14);
  writeUInt64(block, facts.inodeCount, at + 16);
  block.writeUInt32LE(facts.blockCount, at + 36);
  block.writeUInt32LE(crc32c(block.subarray(at)), at + 4);
}

const CRC32C_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = (value & 1) !== 0 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value;
});

/** Castagnoli's CRC as the kernel's `crc32c(~0, …)` gives it: without the final inversion. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (CRC32C_TABLE[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8);
  return crc >>> 0;
}
