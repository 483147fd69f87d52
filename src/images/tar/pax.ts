/** PAX extended headers: `LENGTH KEY=VALUE\n` records. Source: POSIX.1-2017, pax, "pax Extended Header". */
import { tarRefusal } from './tar-entry.ts';

/** Keys are byte strings; values stay bytes, because extended attributes are binary. An empty value unsets a key. */
export type PaxRecords = ReadonlyMap<string, Buffer>;

const SPACE = 0x20;
const NEWLINE = 0x0a;
const EQUALS = 0x3d;

/** Only these may hold NUL bytes: `security.capability` does. */
export const XATTR_KEY = /^(SCHILY\.xattr\.|LIBARCHIVE\.xattr\.)/;

/** @throws tar.bad_pax, tar.nul_in_pax, tar.sparse (invalid). */
export function parsePax(body: Buffer): PaxRecords {
  const records = new Map<string, Buffer>();
  let at = 0;
  while (at < body.length) {
    const space = body.indexOf(SPACE, at);
    const digits = space < 0 ? '' : body.toString('latin1', at, space);
    if (!/^[0-9]{1,7}$/.test(digits)) throw tarRefusal('bad_pax', 'a PAX record does not begin with its length');
    const end = at + Number(digits);
    const equals = body.indexOf(EQUALS, space);
    if (end > body.length || end <= space + 1 || equals < 0 || equals >= end || body[end - 1] !== NEWLINE) {
      throw tarRefusal('bad_pax', 'a PAX record is not "length key=value" and a newline');
    }
    const key = body.toString('latin1', space + 1, equals);
    const value = body.subarray(equals + 1, end - 1);
    if (key === '' || key.includes('\0'))
      throw tarRefusal('bad_pax', 'a PAX record has an empty key or NUL in its key');
    if (!XATTR_KEY.test(key) && value.includes(0)) {
      throw tarRefusal('nul_in_pax', `the PAX record ${JSON.stringify(key)} has a NUL byte in its value`);
    }
    if (key.startsWith('GNU.sparse.'))
      throw tarRefusal('sparse', 'the archive holds a sparse file, which is not supported');
    records.set(key, value);
    at = end;
  }
  return records;
}

/** A decimal number with an optional fraction, as whole seconds and nanoseconds (0–999,999,999). */
export function parsePaxTime(value: Buffer): { seconds: number; nanoseconds: number } {
  const match = /^(-?)([0-9]{1,16})(?:\.([0-9]*))?$/.exec(value.toString('latin1'));
  if (match === null)
    throw tarRefusal('bad_pax', `the PAX time ${JSON.stringify(value.toString('latin1'))} is not a number`);
  const whole = Number(match[2]);
  const nanoseconds = Number((match[3] ?? '').padEnd(9, '0').slice(0, 9));
  if (match[1] === '') return { seconds: whole, nanoseconds };
  return nanoseconds === 0
    ? { seconds: whole === 0 ? 0 : -whole, nanoseconds: 0 }
    : { seconds: -whole - 1, nanoseconds: 1e9 - nanoseconds };
}

/** @throws tar.bad_pax; tar.negative_size when a size is below zero. */
export function parsePaxInteger(key: string, value: Buffer): number {
  const text = value.toString('latin1');
  if (/^-[0-9]+$/.test(text) && key === 'size') throw tarRefusal('negative_size', 'an entry has a negative size');
  const number = /^-?[0-9]{1,19}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(number)) {
    throw tarRefusal('bad_pax', `the PAX record ${key}=${JSON.stringify(text.slice(0, 40))} is not a whole number`);
  }
  return number;
}

/** The extended attributes among the records. LIBARCHIVE's are URL-encoded names with base64 values; SCHILY's win. */
export function paxXattrs(records: PaxRecords): Map<string, Buffer> {
  const xattrs = new Map<string, Buffer>();
  for (const [key, value] of records) {
    if (key.startsWith('LIBARCHIVE.xattr.')) {
      const name = key
        .slice(17)
        .replace(/%([0-9A-Fa-f]{2})/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)));
      if (!records.has(`SCHILY.xattr.${name}`)) xattrs.set(name, Buffer.from(value.toString('latin1'), 'base64'));
    } else if (key.startsWith('SCHILY.xattr.')) {
      xattrs.set(key.slice(13), value);
    }
  }
  return xattrs;
}
