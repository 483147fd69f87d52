/** The 512-byte header block. Source: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format". */
import { tarRefusal } from './tar-entry.ts';

export const TAR_BLOCK_BYTES = 512;

export interface TarHeader {
  readonly name: string;
  readonly linkName: string;
  /** One character; NUL (the old regular file) is given as '0'. */
  readonly typeFlag: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  readonly mtimeSeconds: number;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
}

export function isZeroBlock(block: Buffer): boolean {
  for (let at = 0; at < TAR_BLOCK_BYTES; at += 4) if (block.readUInt32LE(at) !== 0) return false;
  return true;
}

/** @throws tar.bad_checksum, tar.bad_number, tar.negative_size (invalid). */
export function parseTarHeader(block: Buffer): TarHeader {
  checkSum(block);
  const magic = block.toString('latin1', 257, 265);
  const isPosix = magic === 'ustar\x0000';
  const isGnu = magic === 'ustar  \0';
  // Schilling's star marks itself at 508 and has a shorter prefix, because times follow it.
  const prefix = !isPosix ? '' : text(block, 345, block.toString('latin1', 508, 512) === 'tar\0' ? 131 : 155);
  const name = text(block, 0, 100);
  const flag = block[156] ?? 0;
  const sizeBytes = number(block, 124, 12, 'size');
  if (sizeBytes < 0) throw tarRefusal('negative_size', 'an entry has a negative size');
  return {
    name: prefix === '' ? name : `${prefix}/${name}`,
    linkName: text(block, 157, 100),
    typeFlag: flag === 0 ? '0' : String.fromCharCode(flag),
    mode: number(block, 100, 8, 'mode') & 0o7777,
    uid: number(block, 108, 8, 'uid'),
    gid: number(block, 116, 8, 'gid'),
    sizeBytes,
    mtimeSeconds: number(block, 136, 12, 'mtime'),
    deviceMajor: isPosix || isGnu ? number(block, 329, 8, 'devmajor') : 0,
    deviceMinor: isPosix || isGnu ? number(block, 337, 8, 'devminor') : 0,
  };
}

/** The sum of all bytes with the checksum field as blanks; old tars summed signed bytes, and both are accepted. */
function checkSum(block: Buffer): void {
  const stored = number(block, 148, 8, 'checksum');
  let unsigned = 256;
  let negative = 0;
  for (let at = 0; at < TAR_BLOCK_BYTES; at += 1) {
    if (at >= 148 && at < 156) continue;
    const byte = block[at] ?? 0;
    unsigned += byte;
    if (byte > 127) negative += 256;
  }
  if (stored !== unsigned && stored !== unsigned - negative) {
    throw tarRefusal('bad_checksum', 'this is not a tar archive, or it is damaged: a header has a wrong checksum');
  }
}

function text(block: Buffer, start: number, length: number): string {
  const nul = block.indexOf(0, start);
  return block.toString('latin1', start, nul < 0 || nul > start + length ? start + length : nul);
}

/** Octal digits, or base 256 (two's complement) when the first byte's high bit is set. */
function number(block: Buffer, start: number, length: number, field: string): number {
  const first = block[start] ?? 0;
  if ((first & 0x80) !== 0) {
    let value = (first & 0x40) !== 0 ? (first & 0x7f) - 0x80 : first & 0x7f;
    for (let at = start + 1; at < start + length; at += 1) value = value * 256 + (block[at] ?? 0);
    if (!Number.isSafeInteger(value)) {
      if (value < 0 && field === 'size') throw tarRefusal('negative_size', 'an entry has a negative size');
      throw tarRefusal('bad_number', `a header's ${field} is out of range`);
    }
    return value;
  }
  let value = 0;
  let at = start;
  const end = start + length;
  while (at < end && block[at] === 0x20) at += 1;
  for (; at < end; at += 1) {
    const byte = block[at] ?? 0;
    if (byte === 0 || byte === 0x20) break;
    if (byte < 0x30 || byte > 0x37) throw tarRefusal('bad_number', `a header's ${field} is not an octal number`);
    value = value * 8 + (byte - 0x30);
  }
  return value;
}
