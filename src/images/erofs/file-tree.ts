/**
 * The names of one layer, in memory: what the archive's entries add up to, last one wins.
 *
 * It is a picture of a file system, never one of the host's: symbolic links in a *parent* position are followed inside
 * the picture, as Docker's extraction inside a chroot does, with `..` held at the root and at most 40 hops.
 */
import { displayName, tarRefusal } from '../tar/tar-entry.ts';
import type { InodeAttributes } from './erofs-format.ts';

export interface LeafNode {
  readonly kind: 'leaf';
  /** st_mode's kind, for the directory entry. */
  readonly mode: number;
  /** Set for a symbolic link: a byte string. */
  readonly target: string | undefined;
  readonly isWhiteout: boolean;
  /** Byte offset of the inode / 32; known once its block of inodes is written. */
  nid: number;
  linkCount: number;
}

export interface DirectoryNode {
  readonly kind: 'directory';
  readonly parent: DirectoryNode | undefined;
  readonly children: Map<string, TreeNode>;
  attributes: InodeAttributes;
  /** Hides what lower layers have at the same place. */
  isOpaque: boolean;
  nid: number;
}

export type TreeNode = LeafNode | DirectoryNode;

/** As the kernel's MAXSYMLINKS. */
const MAX_LINK_HOPS = 40;

export function newDirectory(parent: DirectoryNode | undefined, attributes: InodeAttributes): DirectoryNode {
  return { kind: 'directory', parent, children: new Map(), attributes, isOpaque: false, nid: -1 };
}

export class FileTree {
  readonly root: DirectoryNode;
  readonly #implied: InodeAttributes;
  /** Entries come folder by folder, so that the last parent is nearly always the next one too. */
  #lastParentPath: string | undefined;
  #lastParent: DirectoryNode;

  /** @param implied - the attributes of parents that the archive uses without an entry for them. */
  constructor(implied: InodeAttributes) {
    this.#implied = implied;
    this.root = newDirectory(undefined, implied);
    this.#lastParent = this.root;
  }

  /** The directory that holds `path`'s last part, made where missing, and that part. `path` is not empty. */
  place(path: string): { parent: DirectoryNode; name: string } {
    const slash = path.lastIndexOf('/');
    const parentPath = slash < 0 ? '' : path.slice(0, slash);
    const name = path.slice(slash + 1);
    if (parentPath !== this.#lastParentPath) {
      this.#lastParent = parentPath === '' ? this.root : this.#walk(parentPath);
      this.#lastParentPath = parentPath;
    }
    return { parent: this.#lastParent, name };
  }

  /** The node at `path`, its last part not followed; undefined when there is none. */
  find(path: string): TreeNode | undefined {
    const { parent, name } = this.place(path);
    return parent.children.get(name);
  }

  putDirectory(path: string, attributes: InodeAttributes): void {
    if (path === '') {
      this.root.attributes = attributes;
      return;
    }
    const { parent, name } = this.place(path);
    const existing = parent.children.get(name);
    if (existing?.kind === 'directory') {
      existing.attributes = attributes;
      return;
    }
    const directory = newDirectory(parent, attributes);
    // A whiteout and a directory of one name in one layer mean: a new directory, with nothing of the old one.
    directory.isOpaque = existing?.isWhiteout === true;
    this.#replace(parent, name, directory);
  }

  putLeaf(path: string, leaf: LeafNode): void {
    const { parent, name } = this.place(path);
    this.#replace(parent, name, leaf);
  }

  /** @throws tar.link_missing_target, tar.link_to_directory (invalid). */
  putHardLink(path: string, targetPath: string): LeafNode {
    const target = this.find(targetPath);
    if (target === undefined || (target.kind === 'leaf' && target.isWhiteout)) {
      throw tarRefusal(
        'link_missing_target',
        `hard link ${displayName(path)} points to ${displayName(targetPath)}, which is not in the archive`,
      );
    }
    if (target.kind === 'directory') {
      throw tarRefusal(
        'link_to_directory',
        `hard link ${displayName(path)} points to the directory ${displayName(targetPath)}`,
      );
    }
    const { parent, name } = this.place(path);
    if (parent.children.get(name) === target) return target;
    target.linkCount += 1;
    this.#replace(parent, name, target);
    return target;
  }

  /** Marks a name as deleted from lower layers. What this layer itself has there stays, whatever the order. */
  putWhiteout(path: string, leaf: LeafNode): boolean {
    const { parent, name } = this.place(path);
    const existing = parent.children.get(name);
    if (existing?.kind === 'directory') existing.isOpaque = true;
    if (existing !== undefined) return false;
    parent.children.set(name, leaf);
    return true;
  }

  #replace(parent: DirectoryNode, name: string, node: TreeNode): void {
    const existing = parent.children.get(name);
    if (existing?.kind === 'leaf') existing.linkCount -= 1;
    if (existing !== undefined) {
      if (existing.kind === 'directory') forgetLinks(existing);
      // The remembered parent may have been reached through what is replaced.
      this.#lastParentPath = undefined;
    }
    parent.children.set(name, node);
  }

  #walk(path: string): DirectoryNode {
    const pending = path.split('/').reverse();
    let hops = 0;
    let at = this.root;
    for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
      if (name === '' || name === '.') continue;
      if (name === '..') {
        at = at.parent ?? this.root;
        continue;
      }
      const child = at.children.get(name);
      if (child?.kind === 'directory') {
        at = child;
      } else if (child?.target !== undefined) {
        hops += 1;
        if (hops > MAX_LINK_HOPS)
          throw tarRefusal('link_loop', `${displayName(path)} passes through too many symbolic links`);
        if (child.target.startsWith('/')) at = this.root;
        pending.push(...child.target.split('/').reverse());
      } else {
        const made = newDirectory(at, this.#implied);
        made.isOpaque = child?.isWhiteout === true;
        this.#replace(at, name, made);
        at = made;
      }
    }
    return at;
  }
}

function forgetLinks(directory: DirectoryNode): void {
  const pending = [directory];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    for (const child of next.children.values()) {
      if (child.kind === 'directory') pending.push(child);
      else child.linkCount -= 1;
    }
  }
}
