/** Credentials of a source: from a file, a named variable or the terminal, never from the command line. */
import { BerthError, messageOf } from '#base';
import { files } from '#platform';
import { type Options, usageError } from './command-line.ts';
import { askHidden } from './hidden-input.ts';

export interface Credentials {
  readonly user: string;
  readonly password: string;
}

/** Credentials files are a few lines. */
const MOST_FILE_BYTES = 64 * 1024;

/** @throws usage (invalid); source.credentials (invalid) that never repeats what it read. */
export async function readCredentials(
  options: Options,
  env: Readonly<Record<string, string | undefined>>,
): Promise<Credentials | undefined> {
  const [file, variable, user] = ['credentials-file', 'credentials-env', 'user'].map((name) => options.text(name));
  if (file !== undefined && variable !== undefined)
    throw usageError('--credentials-file and --credentials-env exclude one another');
  const where = file ?? variable;
  if (where === undefined) {
    if (user === undefined) return undefined;
    return { user, password: await askHidden(`Password of ${user}: `) };
  }
  const text = file === undefined ? env[where] : await readFile(file);
  if (text === undefined) throw usageError(`the variable ${where} is not set`);
  const found = parseCredentialsText(text);
  if (found !== undefined) return user === undefined ? found : { ...found, user };
  throw new BerthError('invalid', 'source.credentials', `${where} holds no credentials`, {
    hint: 'write {"user": "...", "password": "..."}, or the user on one line and the password on the next',
  });
}

/** JSON, or user and password on two lines, or `user:password` on one. Pure. */
export function parseCredentialsText(text: string): Credentials | undefined {
  if (text.trimStart().startsWith('{')) return fromJson(text);
  const [first = '', second] = text.replace(/\r?\n$/, '').split(/\r?\n/);
  if (second !== undefined) return first === '' || second === '' ? undefined : { user: first.trim(), password: second };
  const colon = first.indexOf(':');
  return colon <= 0 ? undefined : { user: first.slice(0, colon), password: first.slice(colon + 1) };
}

function fromJson(text: string): Credentials | undefined {
  try {
    const { user, password } = JSON.parse(text) as Record<string, unknown>;
    return typeof user === 'string' && typeof password === 'string' && user !== '' ? { user, password } : undefined;
  } catch {
    return undefined;
  }
}

async function readFile(path: string): Promise<string> {
  try {
    const { size } = await files.stat(path);
    if (size > MOST_FILE_BYTES) throw usageError(`${path} has ${size} bytes: that is no credentials file`);
    return await files.readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof BerthError) throw error;
    throw usageError(`cannot read ${path}: ${messageOf(error)}`);
  }
}
