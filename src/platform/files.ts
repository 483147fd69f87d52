/**
 * The only door to the file system. Areas use these functions, so that one place can count, fail or tear writes in
 * tests and so that every durable write follows one rule: write aside, fsync, rename, fsync the folder.
 */
import { createReadStream, constants as fsConstants } from 'node:fs';
import {
  access,
  chmod,
  chown,
  copyFile,
  type FileHandle,
  link,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  statfs,
  symlink,
  truncate,
  unlink,
  utimes,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { BerthError, errnoOf } from '#base';
import { sleep } from './clock.ts';

export {
  access,
  chmod,
  chown,
  copyFile,
  createReadStream,
  type FileHandle,
  fsConstants,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  statfs,
  symlink,
  truncate,
  unlink,
  utimes,
};

/** Makes a rename, create or unlink inside `folder` survive a power cut. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A name beside `path` that no other writer uses: same folder, so that rename is atomic. */
export function asideName(path: string): string {
  asideCount += 1;
  // Not random: loading node:crypto takes 7 ms of every command. The time tells a pid from its earlier owners.
  return `${path}.${process.pid}-${Date.now().toString(36)}-${asideCount}.tmp`;
}

let asideCount = 0;

/** Replaces `path` as a whole or not at all, durably. `mode` defaults to 0600. */
export async function writeFileAtomic(path: string, data: string | Uint8Array, mode = 0o600): Promise<void> {
  const aside = asideName(path);
  try {
    const handle = await open(aside, 'wx', mode);
    try {
      await handle.writeFile(data);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(aside, path);
  } catch (error) {
    await rm(aside, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

/** A new folder of this user alone under the temporary folder; its name begins with `prefix`. */
export async function makeTemporaryFolder(prefix: string): Promise<string> {
  return await mkdtemp(join(tmpdir(), prefix));
}

/**
 * The bytes of a file that somebody else could put into its folder: never through a symbolic link, a pipe or a device.
 *
 * @throws file.not_plain (denied), file.too_large (exhausted), and what opening met.
 */
export async function readUntrusted(path: string, mostBytes: number): Promise<Buffer> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fsConstants;
  const handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const facts = await handle.stat();
    if (!facts.isFile() || facts.nlink !== 1)
      throw new BerthError('denied', 'file.not_plain', `${path} is not a plain file with one name`);
    if (facts.size > mostBytes)
      throw new BerthError(
        'exhausted',
        'file.too_large',
        `${path} has ${facts.size} bytes; at most ${mostBytes} are read`,
      );
    const bytes = Buffer.alloc(facts.size);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, 0);
    return bytes.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

/** The file's text, or undefined when there is no such file. Other errors are thrown. */
export async function readTextIfExists(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

export async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}

/** Writes one value to a file under /proc/sys or /sys; skips the write when it already holds that value. */
export async function writeKernelSetting(path: string, value: string): Promise<void> {
  const current = await readFile(path, 'utf8');
  if (current.trim() === value) return;
  const handle = await open(path, 'w');
  try {
    await handle.writeFile(value);
  } finally {
    await handle.close();
  }
}

/** How often a file that is followed is looked at. */
const FOLLOW_MS = 200;

/** What is appended to a file from `position` on, for ever. A file that became shorter is read from its start. */
export async function* followFile(path: string, position: number): AsyncGenerator<Buffer> {
  let at = position;
  for (;;) {
    const size = (await stat(path).catch(() => undefined))?.size ?? 0;
    if (size < at) at = 0;
    if (size > at) {
      for await (const chunk of createReadStream(path, { start: at, end: size - 1 })) yield chunk as Buffer;
      at = size;
    }
    await sleep(FOLLOW_MS);
  }
}
