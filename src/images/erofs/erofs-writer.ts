/**
 * One layer's tar, as it streams by, into one EROFS image, in one append-only pass.
 *
 * File data is appended as it arrives; inodes are packed into blocks between; directories, which need the place of
 * everything in them, come last. Only block 0 and the link counts of hard links are patched at the end. Memory grows
 * with the number of entries (names and places), never with their bytes. The same tar always gives the same image.
 */
import { BerthError } from '#base';
import { displayName, type TarEntry } from '../tar/tar-entry.ts';
import type { BlockOutput } from './block-output.ts';
import { type DirectoryLayout, encodeDirectoryBlock, layOutDirectory } from './directory-layout.ts';
import {
  alignUp,
  BLOCK_BYTES,
  encodeDevice,
  encodeInode,
  encodeSuperblock,
  FORMAT_INLINE,
  FORMAT_PLAIN,
  INODE_BYTES,
  type InodeAttributes,
  type InodePlace,
  LINK_COUNT_OFFSET,
  ROOT_NID,
  ROOT_OFFSET,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFREG,
  SLOT_BYTES,
} from './erofs-format.ts';
import { type DirectoryNode, FileTree, type LeafNode } from './file-tree.ts';
import { InodePacker } from './inode-packer.ts';
import { decodeXattrs, encodeXattrs, isCarriedXattr, OPAQUE_XATTR } from './xattrs.ts';

/** Files up to this size lie beside their inode: half a block, so that packing wastes little. */
const INLINE_MAX_BYTES = 2048;

const NO_XATTRS = Buffer.alloc(0);
const IMPLIED_DIRECTORY: InodeAttributes = {
  mode: S_IFDIR | 0o755,
  uid: 0,
  gid: 0,
  mtimeSeconds: 0,
  mtimeNanoseconds: 0,
  xattrs: NO_XATTRS,
};

/** OCI image spec, "Whiteouts"; the `.wh..wh.` names other than the opaque mark are AUFS's own files. */
const WHITEOUT_PREFIX = '.wh.';
const OPAQUE_NAME = '.wh..wh..opq';
const AUFS_PREFIX = '.wh..wh.';

interface LeafOwner {
  readonly node: LeafNode;
  /** Index into `bodyOffsets` of a file whose content lies `inlineAt` bytes after its inode; -1 for others. */
  readonly bodyIndex: number;
  readonly inlineAt: number;
}

interface OpenFile {
  readonly node: LeafNode;
  readonly attributes: InodeAttributes;
  readonly sizeBytes: number;
  readonly bodyIndex: number;
  /** Collects the content of a small file; undefined when content goes straight to the output. */
  readonly inline: Buffer | undefined;
  readonly startBlock: number;
  receivedBytes: number;
}

export interface ErofsSummary {
  readonly imageBytes: number;
  readonly inodeCount: number;
  /** For each file entry of the archive that had content, in order: where its bytes lie in the image. */
  readonly bodyOffsets: readonly number[];
}

export class ErofsWriter {
  readonly #output: BlockOutput;
  readonly #tree = new FileTree(IMPLIED_DIRECTORY);
  readonly #packer: InodePacker<LeafOwner>;
  readonly #linked = new Set<LeafNode>();
  readonly #bodyOffsets: number[] = [];
  #inodeCount = 0;
  #open: OpenFile | undefined;

  constructor(output: BlockOutput) {
    this.#output = output;
    this.#packer = new InodePacker(output, ({ node, bodyIndex, inlineAt }, offset) => {
      node.nid = offset / SLOT_BYTES;
      if (bodyIndex >= 0) this.#bodyOffsets[bodyIndex] = offset + inlineAt;
    });
    output.append(Buffer.alloc(BLOCK_BYTES));
  }

  /** @throws tar.* (invalid) for links that lead nowhere; erofs.xattr_too_large (invalid). */
  entry(entry: TarEntry): void {
    const name = entry.path.slice(entry.path.lastIndexOf('/') + 1);
    if (name.startsWith(WHITEOUT_PREFIX)) this.#whiteout(entry, name);
    else if (entry.type === 'directory') this.#tree.putDirectory(entry.path, attributesOf(entry, S_IFDIR));
    else if (entry.type === 'hardlink') this.#linked.add(this.#tree.putHardLink(entry.path, entry.linkTarget));
    else if (entry.type === 'symlink') this.#symlink(entry);
    else if (entry.type === 'file') this.#openFile(entry, true);
    else this.#special(entry);
  }

  body(bytes: Buffer): void {
    const file = this.#open;
    if (file === undefined) throw new BerthError('bug', 'erofs.no_file', 'content arrived without a file');
    if (file.inline === undefined) this.#output.append(bytes);
    else bytes.copy(file.inline, file.receivedBytes);
    file.receivedBytes += bytes.length;
  }

  entryEnd(): void {
    const file = this.#open;
    if (file === undefined) return;
    this.#open = undefined;
    if (file.inline === undefined) {
      this.#output.padToBlock();
      this.#placeLeaf(file.node, file.attributes, {
        format: FORMAT_PLAIN,
        sizeBytes: file.sizeBytes,
        blockOrDevice: file.startBlock,
      });
    } else {
      const inlineAt = INODE_BYTES + file.attributes.xattrs.length;
      this.#placeInline(file.node, file.attributes, file.inline, { bodyIndex: file.bodyIndex, inlineAt });
    }
  }

  /** Writes the directories and the superblock. The output is complete and flushed afterwards. */
  async finish(): Promise<ErofsSummary> {
    this.#packer.flush();
    const rootBlock = await this.#writeDirectories();
    const imageBytes = this.#output.position;
    await this.#output.flush();
    encodeSuperblock(rootBlock, { inodeCount: this.#inodeCount, blockCount: imageBytes / BLOCK_BYTES });
    await this.#output.patch(rootBlock, 0);
    const linkCount = Buffer.alloc(4);
    for (const node of this.#linked) {
      linkCount.writeUInt32LE(Math.max(0, node.linkCount));
      await this.#output.patch(linkCount, node.nid * SLOT_BYTES + LINK_COUNT_OFFSET);
    }
    return { imageBytes, inodeCount: this.#inodeCount, bodyOffsets: this.#bodyOffsets };
  }

  #whiteout(entry: TarEntry, name: string): void {
    const parentPath = entry.path.slice(0, -name.length);
    // The mark's own bytes, if an archive gives it any, are kept as an orphan, for the tar to be made again from.
    if (entry.sizeBytes > 0) this.#openFile(entry, false);
    if (name === OPAQUE_NAME) {
      this.#tree.place(`${parentPath}x`).parent.isOpaque = true;
      return;
    }
    if (name.startsWith(AUFS_PREFIX)) return;
    const hidden = name.slice(WHITEOUT_PREFIX.length);
    if (hidden === '' || hidden === '.' || hidden === '..') {
      throw new BerthError('invalid', 'tar.bad_whiteout', `the whiteout ${displayName(entry.path)} names no file`);
    }
    const attributes = { ...attributesOf(entry, S_IFCHR), mode: S_IFCHR, xattrs: NO_XATTRS };
    const node = leaf(S_IFCHR, { isWhiteout: true });
    if (this.#tree.putWhiteout(parentPath + hidden, node)) {
      this.#placeLeaf(node, attributes, { format: FORMAT_PLAIN, sizeBytes: 0, blockOrDevice: 0 });
    }
  }

  #openFile(entry: TarEntry, isNamed: boolean): void {
    const attributes = attributesOf(entry, S_IFREG);
    const node = leaf(S_IFREG);
    if (isNamed) this.#tree.putLeaf(entry.path, node);
    const { sizeBytes } = entry;
    const isInline = sizeBytes <= INLINE_MAX_BYTES && INODE_BYTES + attributes.xattrs.length + sizeBytes <= BLOCK_BYTES;
    const startBlock = this.#output.position / BLOCK_BYTES;
    const bodyIndex = sizeBytes === 0 ? -1 : this.#bodyOffsets.push(startBlock * BLOCK_BYTES) - 1;
    this.#open = {
      node,
      attributes,
      sizeBytes,
      bodyIndex,
      inline: isInline ? Buffer.allocUnsafe(sizeBytes) : undefined,
      startBlock,
      receivedBytes: 0,
    };
  }

  #symlink(entry: TarEntry): void {
    const attributes = attributesOf(entry, S_IFLNK);
    const node = leaf(S_IFLNK, { target: entry.linkTarget });
    this.#tree.putLeaf(entry.path, node);
    const target = Buffer.from(entry.linkTarget, 'latin1');
    if (INODE_BYTES + attributes.xattrs.length + target.length <= BLOCK_BYTES) {
      this.#placeInline(node, attributes, target, { bodyIndex: -1, inlineAt: 0 });
      return;
    }
    const blockOrDevice = this.#output.position / BLOCK_BYTES;
    this.#output.append(target);
    this.#output.padToBlock();
    this.#placeLeaf(node, attributes, { format: FORMAT_PLAIN, sizeBytes: target.length, blockOrDevice });
  }

  #special(entry: TarEntry): void {
    const kind = entry.type === 'character' ? S_IFCHR : entry.type === 'block' ? S_IFBLK : S_IFIFO;
    const node = leaf(kind);
    this.#tree.putLeaf(entry.path, node);
    const blockOrDevice = kind === S_IFIFO ? 0 : encodeDevice(entry.deviceMajor, entry.deviceMinor);
    this.#placeLeaf(node, attributesOf(entry, kind), { format: FORMAT_PLAIN, sizeBytes: 0, blockOrDevice });
  }

  #placeLeaf(
    node: LeafNode,
    attributes: InodeAttributes,
    place: Pick<InodePlace, 'format' | 'sizeBytes' | 'blockOrDevice'>,
  ): void {
    this.#inodeCount += 1;
    const whole = { ...place, inodeNumber: this.#inodeCount, linkCount: 1 };
    const owner = { node, bodyIndex: -1, inlineAt: 0 };
    const length = INODE_BYTES + attributes.xattrs.length;
    if (length > BLOCK_BYTES) {
      const record = Buffer.alloc(length);
      encodeInode(record, 0, attributes, whole);
      this.#packer.placeLarge(owner, record);
      return;
    }
    const { block, at } = this.#packer.reserve(owner, length);
    encodeInode(block, at, attributes, whole);
  }

  #placeInline(
    node: LeafNode,
    attributes: InodeAttributes,
    content: Buffer,
    where: Pick<LeafOwner, 'bodyIndex' | 'inlineAt'>,
  ): void {
    this.#inodeCount += 1;
    const head = INODE_BYTES + attributes.xattrs.length;
    const { block, at } = this.#packer.reserve({ node, ...where }, head + content.length);
    encodeInode(block, at, attributes, {
      format: FORMAT_INLINE,
      sizeBytes: content.length,
      blockOrDevice: 0,
      inodeNumber: this.#inodeCount,
      linkCount: 1,
    });
    content.copy(block, at + head);
  }

  /** Two passes: places first, then contents, because `.`, `..` and entries name places. Returns block 0. */
  async #writeDirectories(): Promise<Buffer> {
    const plans = planDirectories(this.#tree.root, this.#output.position);
    const rootBlock = Buffer.alloc(BLOCK_BYTES);
    let block: Buffer = Buffer.alloc(BLOCK_BYTES);
    let blockStart = this.#output.position;
    const writeBlock = (): void => {
      this.#output.append(block);
      block = Buffer.alloc(BLOCK_BYTES);
      blockStart += BLOCK_BYTES;
    };
    for (const plan of plans) {
      this.#inodeCount += 1;
      if (plan.offset === ROOT_OFFSET) {
        this.#encodeDirectory(plan, rootBlock, ROOT_OFFSET);
        continue;
      }
      while (plan.offset >= blockStart + BLOCK_BYTES) writeBlock();
      const length = INODE_BYTES + plan.attributes.xattrs.length;
      if (length > BLOCK_BYTES) {
        const record = Buffer.alloc(alignUp(length, BLOCK_BYTES));
        this.#encodeDirectory(plan, record, 0);
        this.#output.append(record);
        blockStart += record.length;
      } else this.#encodeDirectory(plan, block, plan.offset - blockStart);
      await this.#output.drain();
    }
    if (plans.some((plan) => plan.offset >= blockStart)) writeBlock();
    for (const plan of plans) {
      const layout = layOutDirectory(plan.directory);
      for (let index = 0; index < plan.plainBlocks; index += 1) {
        const data = Buffer.alloc(BLOCK_BYTES);
        encodeDirectoryBlock(plan.directory, layout, index, data, 0);
        this.#output.append(data);
      }
      await this.#output.drain();
    }
    return rootBlock;
  }

  #encodeDirectory(plan: DirectoryPlan, target: Buffer, at: number): void {
    const { directory, attributes } = plan;
    const layout = layOutDirectory(directory);
    encodeInode(target, at, attributes, {
      format: plan.isInline ? FORMAT_INLINE : FORMAT_PLAIN,
      sizeBytes: layout.sizeBytes,
      blockOrDevice: plan.firstBlock,
      inodeNumber: this.#inodeCount,
      linkCount: plan.linkCount,
    });
    if (plan.isInline) {
      const tail = layout.firstNames.length - 1;
      encodeDirectoryBlock(directory, layout, tail, target, at + INODE_BYTES + attributes.xattrs.length);
    }
  }
}

interface DirectoryPlan {
  readonly directory: DirectoryNode;
  readonly attributes: InodeAttributes;
  /** Byte offset of the inode. */
  readonly offset: number;
  readonly isInline: boolean;
  readonly plainBlocks: number;
  readonly linkCount: number;
  firstBlock: number;
}

/** Gives every directory its inode's place (and sets its nid) and its blocks, starting at byte `start`. */
function planDirectories(root: DirectoryNode, start: number): DirectoryPlan[] {
  const plans: DirectoryPlan[] = [];
  let next = start;
  const pending = [root];
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    const attributes = directoryAttributes(directory);
    const layout: DirectoryLayout = layOutDirectory(directory);
    const head = INODE_BYTES + attributes.xattrs.length;
    const isRoot = directory === root;
    const room = isRoot ? BLOCK_BYTES - ROOT_OFFSET : BLOCK_BYTES;
    if (isRoot && head > room) {
      throw new BerthError('unsupported', 'erofs.root_xattrs', `the root directory has ${head} bytes of attributes`);
    }
    const isInline = head + layout.tailBytes <= room;
    const length = head + (isInline ? layout.tailBytes : 0);
    let offset = ROOT_OFFSET;
    if (!isRoot) {
      if ((next % BLOCK_BYTES) + length > BLOCK_BYTES) next = alignUp(next, BLOCK_BYTES);
      offset = next;
      next = alignUp(next + length, length > BLOCK_BYTES ? BLOCK_BYTES : SLOT_BYTES);
    }
    directory.nid = isRoot ? ROOT_NID : offset / SLOT_BYTES;
    let linkCount = 2;
    for (const child of directory.children.values()) {
      if (child.kind !== 'directory') continue;
      linkCount += 1;
      pending.push(child);
    }
    const plainBlocks = layout.firstNames.length - (isInline ? 1 : 0);
    plans.push({ directory, attributes, offset, isInline, plainBlocks, linkCount, firstBlock: 0 });
  }
  let block = alignUp(next, BLOCK_BYTES) / BLOCK_BYTES;
  for (const plan of plans) {
    if (plan.plainBlocks > 0) plan.firstBlock = block;
    block += plan.plainBlocks;
  }
  return plans;
}

/** With overlayfs's mark when the directory hides what lower layers have. */
function directoryAttributes(directory: DirectoryNode): InodeAttributes {
  const { attributes } = directory;
  if (!directory.isOpaque) return attributes;
  const xattrs = decodeXattrs(attributes.xattrs).set(OPAQUE_XATTR, Buffer.from('y'));
  return { ...attributes, xattrs: encodeXattrs(xattrs) };
}

function attributesOf(entry: TarEntry, kind: number): InodeAttributes {
  let xattrs: Buffer = NO_XATTRS;
  if (entry.xattrs.size > 0) xattrs = encodeXattrs(new Map([...entry.xattrs].filter(([name]) => isCarriedXattr(name))));
  return {
    mode: kind | entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    mtimeSeconds: entry.mtimeSeconds,
    mtimeNanoseconds: entry.mtimeNanoseconds,
    xattrs,
  };
}

function leaf(mode: number, facts: { target?: string; isWhiteout?: boolean } = {}): LeafNode {
  return { kind: 'leaf', mode, target: facts.target, isWhiteout: facts.isWhiteout ?? false, nid: -1, linkCount: 1 };
}
