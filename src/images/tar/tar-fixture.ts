/** Archives for tests, hostile ones among them: every header field can be set to any bytes. */
import { TAR_BLOCK_BYTES } from './tar-header.ts';
import { tarPadding } from './tar-writer.ts';

export interface RawMember {
  readonly name: string;
  readonly type?: string;
  readonly content?: string | Uint8Array;
  readonly link?: string;
  /** Overrides the content's length: octal text or 12 raw bytes. */
  readonly size?: number | Uint8Array;
  readonly mode?: number;
  readonly uid?: number;
  readonly mtime?: number;
  readonly device?: readonly [major: number, minor: number];
  /** `ustar` (default), `gnu`, or none at all. */
  readonly magic?: 'ustar' | 'gnu' | 'v7';
  readonly prefix?: string;
  readonly wrongChecksum?: boolean;
}

export function rawMember(member: RawMember): Buffer {
  const content = Buffer.from(member.content ?? '');
  const block = Buffer.alloc(TAR_BLOCK_BYTES);
  const octal = (value: number, at: number, length: number): void => {
    block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
  };
  block.write(member.name, 0, 100, 'latin1');
  octal(member.mode ?? 0o644, 100, 8);
  octal(member.uid ?? 0, 108, 8);
  octal(0, 116, 8);
  if (member.size instanceof Uint8Array) block.set(member.size, 124);
  else octal(member.size ?? content.length, 124, 12);
  octal(member.mtime ?? 0, 136, 12);
  block.write(member.type ?? '0', 156, 'latin1');
  block.write(member.link ?? '', 157, 100, 'latin1');
  if (member.magic !== 'v7') block.write(member.magic === 'gnu' ? 'ustar  \0' : 'ustar\x0000', 257, 'latin1');
  if (member.device !== undefined) {
    octal(member.device[0], 329, 8);
    octal(member.device[1], 337, 8);
  }
  if (member.prefix !== undefined) block.write(member.prefix, 345, 155, 'latin1');
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, member.wrongChecksum === true ? 1 : 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return Buffer.concat([block, content, tarPadding(content.length)]);
}

/** One PAX record with its own length counted in. */
export function paxRecord(key: string, value: string | Uint8Array): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`, 'latin1'), Buffer.from(value), Buffer.from('\n')]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

export function paxHeader(records: Readonly<Record<string, string | Uint8Array>>, type: 'x' | 'g' = 'x'): Buffer {
  const content = Buffer.concat(Object.entries(records).map(([key, value]) => paxRecord(key, value)));
  return rawMember({ name: 'PaxHeaders/x', type, content });
}

export function gnuLong(type: 'L' | 'K', name: string): Buffer {
  return rawMember({ name: '././@LongLink', type, content: `${name}\0`, magic: 'gnu' });
}

export const END_MARK: Buffer = Buffer.alloc(2 * TAR_BLOCK_BYTES);

export function archiveOf(...parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat([...parts, END_MARK]);
}
