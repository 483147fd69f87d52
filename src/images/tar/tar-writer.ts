/** Tar blocks that berth makes itself: saved archives and built-in images. Deterministic: nothing but what is given. */
import { TAR_BLOCK_BYTES } from './tar-header.ts';

export type TarMemberType = 'file' | 'directory' | 'symlink' | 'hardlink';

export interface TarMember {
  readonly path: string;
  readonly type: TarMemberType;
  /** Permission bits. Defaults: 0o644, directories 0o755. */
  readonly mode?: number;
  readonly sizeBytes?: number;
  readonly linkTarget?: string;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtimeSeconds?: number;
}

const TYPE_FLAGS: Readonly<Record<TarMemberType, string>> = { file: '0', hardlink: '1', symlink: '2', directory: '5' };
/** The largest number that eleven octal digits hold; beyond it the size is written in base 256, as GNU tar does. */
const OCTAL_MAX = 8 ** 11 - 1;

/** The header block of a member; names longer than a header holds are preceded by GNU long-name blocks. */
export function tarHeader(member: TarMember): Buffer {
  const name = Buffer.from(member.type === 'directory' && !member.path.endsWith('/') ? `${member.path}/` : member.path);
  const link = Buffer.from(member.linkTarget ?? '');
  const parts: Buffer[] = [];
  if (name.length > 100) parts.push(...longName('L', name));
  if (link.length > 100) parts.push(...longName('K', link));
  const isDirectory = member.type === 'directory';
  parts.push(
    headerBlock(name, link, {
      typeFlag: TYPE_FLAGS[member.type],
      mode: member.mode ?? (isDirectory ? 0o755 : member.type === 'symlink' ? 0o777 : 0o644),
      sizeBytes: member.sizeBytes ?? 0,
      uid: member.uid ?? 0,
      gid: member.gid ?? 0,
      mtimeSeconds: member.mtimeSeconds ?? 0,
    }),
  );
  return Buffer.concat(parts);
}

/** Zeros that follow a member of `sizeBytes`. */
export function tarPadding(sizeBytes: number): Buffer {
  return Buffer.alloc((TAR_BLOCK_BYTES - (sizeBytes % TAR_BLOCK_BYTES)) % TAR_BLOCK_BYTES);
}

/** The end mark. */
export function tarEnd(): Buffer {
  return Buffer.alloc(2 * TAR_BLOCK_BYTES);
}

/** A whole small file. */
export function tarFile(
  path: string,
  content: string | Uint8Array,
  facts: Omit<TarMember, 'path' | 'type'> = {},
): Buffer {
  const bytes = Buffer.from(content);
  return Buffer.concat([
    tarHeader({ ...facts, path, type: 'file', sizeBytes: bytes.length }),
    bytes,
    tarPadding(bytes.length),
  ]);
}

interface HeaderFields {
  readonly typeFlag: string;
  readonly mode: number;
  readonly sizeBytes: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
}

function headerBlock(name: Buffer, link: Buffer, fields: HeaderFields): Buffer {
  const block = Buffer.alloc(TAR_BLOCK_BYTES);
  name.copy(block, 0, 0, 100);
  writeOctal(block, 100, 8, fields.mode);
  writeOctal(block, 108, 8, fields.uid);
  writeOctal(block, 116, 8, fields.gid);
  if (fields.sizeBytes <= OCTAL_MAX) writeOctal(block, 124, 12, fields.sizeBytes);
  else {
    block[124] = 0x80;
    block.writeBigUInt64BE(BigInt(fields.sizeBytes), 128);
  }
  writeOctal(block, 136, 12, fields.mtimeSeconds);
  block.write(fields.typeFlag, 156, 'latin1');
  link.copy(block, 157, 0, 100);
  block.write('ustar  \0', 257, 'latin1');
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

function longName(typeFlag: 'L' | 'K', value: Buffer): Buffer[] {
  const body = Buffer.concat([value, Buffer.alloc(1)]);
  const fields = { typeFlag, mode: 0, sizeBytes: body.length, uid: 0, gid: 0, mtimeSeconds: 0 };
  return [headerBlock(Buffer.from('././@LongLink'), Buffer.alloc(0), fields), body, tarPadding(body.length)];
}

function writeOctal(block: Buffer, at: number, length: number, value: number): void {
  block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
}
