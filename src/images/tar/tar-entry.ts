import { BerthError } from '#base';

export type TarEntryType = 'file' | 'hardlink' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo';

/**
 * One member of an archive, checked.
 *
 * Paths and link targets are *byte strings*: one character (U+0000–U+00FF) per byte, as `latin1` decodes. A tar's names
 * are bytes, not text, and byte strings keep every one of them and sort in byte order.
 */
export interface TarEntry {
  /** Without leading or trailing `/`, without `.` and `..`; the empty string is the root itself. */
  readonly path: string;
  readonly type: TarEntryType;
  /** Permission bits and setuid, setgid, sticky: 0–0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes of body that follow; 0 for everything but a file. */
  readonly sizeBytes: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  /** A hard link's target is checked as `path` is; a symbolic link's is data and may say anything but NUL. */
  readonly linkTarget: string;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** Extended attributes by full name (`security.capability`). */
  readonly xattrs: ReadonlyMap<string, Buffer>;
}

/** Linux's PATH_MAX and NAME_MAX (limits.h), bytes. */
export const PATH_MAX_BYTES = 4096;
export const NAME_MAX_BYTES = 255;

/** A refusal of an archive: always kind invalid, with a stable `tar.*` code. */
export function tarRefusal(code: string, message: string): BerthError {
  return new BerthError('invalid', `tar.${code}`, message);
}

/** A byte string as people read it, for messages: UTF-8 where it is, quoted, cut at 200 characters. */
export function displayName(name: string): string {
  const text = Buffer.from(name, 'latin1').toString('utf8');
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}

/**
 * The path inside the archive's root. A leading `/` is stripped, as Docker does; `..` is refused wherever it stands,
 * because a textual clean-up can be defeated by links (CVE-2020-27833).
 *
 * @throws tar.path_escapes, tar.path_too_long, tar.name_too_long (invalid).
 */
export function normalisePath(name: string): string {
  if (name.length > PATH_MAX_BYTES) {
    throw tarRefusal('path_too_long', `the archive names ${displayName(name)}, longer than ${PATH_MAX_BYTES} bytes`);
  }
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') throw tarRefusal('path_escapes', `the archive names ${displayName(name)}, which contains ".."`);
    if (part.length > NAME_MAX_BYTES) {
      throw tarRefusal(
        'name_too_long',
        `the archive names ${displayName(name)}, a part of which exceeds ${NAME_MAX_BYTES} bytes`,
      );
    }
    parts.push(part);
  }
  return parts.join('/');
}
