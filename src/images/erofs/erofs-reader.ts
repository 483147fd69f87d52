/**
 * Reads berth's own EROFS images: names, attributes and content, every offset checked against the image's size.
 *
 * It understands what `ErofsWriter` makes and refuses the rest; it is not a general EROFS implementation, and it is
 * never given an image that a guest could have written.
 */
import { BerthError } from '#base';
import {
  alignUp,
  BLOCK_BYTES,
  DIRENT_BYTES,
  EROFS_MAGIC,
  FORMAT_INLINE,
  FORMAT_PLAIN,
  INODE_BYTES,
  readUInt64,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  SLOT_BYTES,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET,
  XATTR_HEADER_BYTES,
} from './erofs-format.ts';
import { decodeXattrs } from './xattrs.ts';

/** What the reader needs of a file: a file handle will do. */
export interface InputFile {
  read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
}

export interface ErofsInode {
  readonly nid: number;
  /** st_mode. */
  readonly mode: number;
  readonly sizeBytes: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  readonly linkCount: number;
  /** The device number of a device as the kernel packs it; 0 for others. */
  readonly device: number;
  readonly xattrs: ReadonlyMap<string, Buffer>;
  /** Where the content lies: whole blocks, then (`inlineOffset` ≥ 0) the rest behind the inode. */
  readonly dataOffset: number;
  readonly inlineOffset: number;
}

export interface ErofsDirent {
  /** A byte string. */
  readonly name: string;
  readonly nid: number;
}

/** Bytes per read: a few system calls per megabyte, and little memory. */
const READ_BYTES = 256 * 1024;

function damaged(what: string): BerthError {
  return new BerthError('data_loss', 'erofs.damaged', `the layer image is damaged: ${what}`, {
    hint: 'remove the image and pull it again',
  });
}

export class ErofsReader {
  readonly #file: InputFile;
  readonly #imageBytes: number;
  readonly rootNid: number;

  private constructor(file: InputFile, imageBytes: number, rootNid: number) {
    this.#file = file;
    this.#imageBytes = imageBytes;
    this.rootNid = rootNid;
  }

  /** @throws erofs.damaged (data_loss) when this is not an image that berth wrote. */
  static async open(file: InputFile, imageBytes: number): Promise<ErofsReader> {
    const superblock = Buffer.alloc(SUPERBLOCK_BYTES);
    await readExactly(file, superblock, SUPERBLOCK_OFFSET);
    if (superblock.readUInt32LE(0) !== EROFS_MAGIC || superblock[12] !== 12 || superblock.readUInt32LE(80) !== 0) {
      throw damaged('it has no superblock of this format');
    }
    if (superblock.readUInt32LE(36) * BLOCK_BYTES !== imageBytes) throw damaged('its size is not what it says');
    return new ErofsReader(file, imageBytes, superblock.readUInt16LE(14));
  }

  async inode(nid: number): Promise<ErofsInode> {
    const offset = nid * SLOT_BYTES;
    const head = await this.#bytes(offset, INODE_BYTES);
    const format = head.readUInt16LE(0);
    if (format !== FORMAT_PLAIN && format !== FORMAT_INLINE) throw damaged(`inode ${nid} has format ${format}`);
    const xattrCount = head.readUInt16LE(2);
    const xattrBytes = xattrCount === 0 ? 0 : XATTR_HEADER_BYTES + (xattrCount - 1) * 4;
    const mode = head.readUInt16LE(4);
    const sizeBytes = readUInt64(head, 8);
    const isData = [S_IFREG, S_IFDIR, S_IFLNK].includes(mode & S_IFMT);
    const pointer = head.readUInt32LE(16);
    if (isData && sizeBytes > this.#imageBytes) throw damaged(`inode ${nid} is larger than the image`);
    return {
      nid,
      mode,
      sizeBytes,
      uid: head.readUInt32LE(24),
      gid: head.readUInt32LE(28),
      mtimeSeconds: Number(head.readBigInt64LE(32)),
      mtimeNanoseconds: head.readUInt32LE(40),
      linkCount: head.readUInt32LE(44),
      device: isData ? 0 : pointer,
      xattrs: xattrBytes === 0 ? new Map() : decodeXattrs(await this.#bytes(offset + INODE_BYTES, xattrBytes)),
      dataOffset: pointer * BLOCK_BYTES,
      inlineOffset: format === FORMAT_INLINE ? offset + INODE_BYTES + xattrBytes : -1,
    };
  }

  /** The directory's entries in byte order, without `.` and `..`. */
  async list(directory: ErofsInode): Promise<ErofsDirent[]> {
    if ((directory.mode & S_IFMT) !== S_IFDIR) {
      throw new BerthError('invalid', 'erofs.not_directory', `inode ${directory.nid} is not a directory`);
    }
    const entries: ErofsDirent[] = [];
    for (let at = 0; at < directory.sizeBytes; at += BLOCK_BYTES) {
      const block = await this.#content(directory, at, Math.min(BLOCK_BYTES, directory.sizeBytes - at));
      entries.push(...direntsOf(block));
    }
    return entries.filter(({ name }) => name !== '.' && name !== '..');
  }

  /** The inode at `path` (`/`-separated, UTF-8), links not followed; undefined when there is none. */
  async lookup(path: string): Promise<ErofsInode | undefined> {
    let inode = await this.inode(this.rootNid);
    for (const part of Buffer.from(path).toString('latin1').split('/')) {
      if (part === '' || part === '.') continue;
      if ((inode.mode & S_IFMT) !== S_IFDIR) return undefined;
      const entry = (await this.list(inode)).find(({ name }) => name === part);
      if (entry === undefined) return undefined;
      inode = await this.inode(entry.nid);
    }
    return inode;
  }

  /** The content of a file or the target of a symbolic link, in pieces of at most 256 KiB. */
  async *read(inode: ErofsInode): AsyncGenerator<Buffer> {
    for (let at = 0; at < inode.sizeBytes; at += READ_BYTES) {
      yield await this.#content(inode, at, Math.min(READ_BYTES, inode.sizeBytes - at));
    }
  }

  async #content(inode: ErofsInode, at: number, length: number): Promise<Buffer> {
    if (inode.inlineOffset < 0) return this.#bytes(inode.dataOffset + at, length);
    const plainBytes = alignUp(inode.sizeBytes, BLOCK_BYTES) - BLOCK_BYTES;
    const fromPlain = Math.max(0, Math.min(length, plainBytes - at));
    const parts: Buffer[] = [];
    if (fromPlain > 0) parts.push(await this.#bytes(inode.dataOffset + at, fromPlain));
    if (fromPlain < length) {
      parts.push(await this.#bytes(inode.inlineOffset + at + fromPlain - plainBytes, length - fromPlain));
    }
    return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
  }

  async #bytes(offset: number, length: number): Promise<Buffer> {
    if (offset < 0 || offset + length > this.#imageBytes) throw damaged(`it points to byte ${offset}, outside itself`);
    const buffer = Buffer.allocUnsafe(length);
    await readExactly(this.#file, buffer, offset);
    return buffer;
  }
}

/** @throws erofs.damaged (data_loss) when the file ends early. */
export async function readExactly(file: InputFile, buffer: Buffer, position: number): Promise<void> {
  let done = 0;
  while (done < buffer.length) {
    const { bytesRead } = await file.read(buffer, done, buffer.length - done, position + done);
    if (bytesRead === 0) throw damaged('it ends early');
    done += bytesRead;
  }
}

function direntsOf(block: Buffer): ErofsDirent[] {
  if (block.length < DIRENT_BYTES) throw damaged('a directory block is too short');
  const headBytes = block.readUInt16LE(8);
  if (headBytes === 0 || headBytes % DIRENT_BYTES !== 0 || headBytes > block.length) {
    throw damaged('a directory block has no entries');
  }
  const entries: ErofsDirent[] = [];
  for (let at = 0; at < headBytes; at += DIRENT_BYTES) {
    const nameAt = block.readUInt16LE(at + 8);
    const isLast = at + DIRENT_BYTES === headBytes;
    let nameEnd = isLast ? block.length : block.readUInt16LE(at + DIRENT_BYTES + 8);
    const nul = isLast ? block.indexOf(0, nameAt) : -1;
    if (nul >= 0) nameEnd = nul;
    if (nameAt < headBytes || nameEnd <= nameAt || nameEnd > block.length) throw damaged('a directory has a bad name');
    entries.push({ name: block.toString('latin1', nameAt, nameEnd), nid: readUInt64(block, at) });
  }
  return entries;
}
