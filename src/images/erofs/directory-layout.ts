/** Directory contents: blocks of entries, then their names, sorted by bytes over the whole directory. */
import { BLOCK_BYTES, DIRENT_BYTES, direntType, S_IFDIR, writeUInt64 } from './erofs-format.ts';
import type { DirectoryNode } from './file-tree.ts';

export interface DirectoryLayout {
  /** Sorted, `.` and `..` included. */
  readonly names: readonly string[];
  /** For each block, the index of its first name. */
  readonly firstNames: readonly number[];
  readonly sizeBytes: number;
  /** Bytes used in the last block: 1–4096. */
  readonly tailBytes: number;
}

export function layOutDirectory(directory: DirectoryNode): DirectoryLayout {
  // Byte strings: comparing UTF-16 units compares bytes, which is the order the kernel's search expects.
  const names = [...directory.children.keys(), '.', '..'].sort();
  const firstNames = [0];
  let used = 0;
  names.forEach((name, index) => {
    const need = DIRENT_BYTES + name.length;
    if (used + need > BLOCK_BYTES) {
      firstNames.push(index);
      used = 0;
    }
    used += need;
  });
  return { names, firstNames, sizeBytes: (firstNames.length - 1) * BLOCK_BYTES + used, tailBytes: used };
}

/** Writes block `index` of the directory to `target` at `at`; the bytes there must be zero. */
export function encodeDirectoryBlock(
  directory: DirectoryNode,
  layout: DirectoryLayout,
  index: number,
  target: Buffer,
  at: number,
): void {
  const first = layout.firstNames[index] ?? 0;
  const end = layout.firstNames[index + 1] ?? layout.names.length;
  let nameAt = (end - first) * DIRENT_BYTES;
  for (let entry = first; entry < end; entry += 1) {
    const name = layout.names[entry] ?? '';
    const { nid, type } = entryOf(directory, name);
    const head = at + (entry - first) * DIRENT_BYTES;
    writeUInt64(target, nid, head);
    target.writeUInt16LE(nameAt, head + 8);
    target[head + 10] = type;
    target.write(name, at + nameAt, name.length, 'latin1');
    nameAt += name.length;
  }
}

function entryOf(directory: DirectoryNode, name: string): { nid: number; type: number } {
  const type = direntType(S_IFDIR);
  if (name === '.') return { nid: directory.nid, type };
  if (name === '..') return { nid: (directory.parent ?? directory).nid, type };
  const child = directory.children.get(name);
  if (child === undefined) return { nid: 0, type: 0 };
  return { nid: child.nid, type: child.kind === 'directory' ? type : direntType(child.mode) };
}
