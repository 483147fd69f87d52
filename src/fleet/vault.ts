/**
 * Credentials at rest: AES-256-GCM under a key that lies beside the database, readable by the daemon's user alone.
 *
 *     version 1 | nonce, 12 bytes | tag, 16 bytes | what is sealed
 *
 * What is sealed is bound to the source it was given for: put beside another URL in the database it does not open.
 * This keeps credentials out of copies of the database and out of everybody else's reach; whoever can read the whole
 * state folder as its owner can read them.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import * as v from 'valibot';
import { BerthError, errnoOf } from '#base';
import { files } from '#platform';
import type { Credentials } from './driver.ts';

const ALGORITHM = 'aes-256-gcm';
const VERSION = 1;
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

const CredentialsSchema = v.strictObject({
  user: v.pipe(v.string(), v.minLength(1), v.maxLength(512)),
  password: v.pipe(v.string(), v.maxLength(4_096)),
});

/** @throws source.credentials (invalid) naming what is wrong, never what was given. */
export function parseCredentials(value: unknown): Credentials {
  const parsed = v.safeParse(CredentialsSchema, value);
  if (parsed.success) return parsed.output;
  const problems = parsed.issues.map((issue) => `${v.getDotPath(issue) ?? 'all of it'} is not right`);
  throw new BerthError('invalid', 'source.credentials', `the credentials cannot be used: ${problems.join('; ')}`, {
    hint: 'they are {"user": "...", "password": "..."}',
  });
}

export class Vault {
  readonly #key: Buffer;

  private constructor(key: Buffer) {
    this.#key = key;
  }

  /** Makes the key when there is none. @throws vault.exposed (denied) when others can read it. */
  static async open(path: string): Promise<Vault> {
    const found = await readKey(path);
    if (found !== undefined) return new Vault(found);
    const key = randomBytes(KEY_BYTES);
    await files.writeFileAtomic(path, key, 0o600);
    return new Vault(key);
  }

  seal(credentials: Credentials, boundTo: string): Buffer {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(ALGORITHM, this.#key, nonce).setAAD(Buffer.from(boundTo));
    const sealed = Buffer.concat([cipher.update(JSON.stringify(credentials), 'utf8'), cipher.final()]);
    return Buffer.concat([Buffer.from([VERSION]), nonce, cipher.getAuthTag(), sealed]);
  }

  /** @throws vault.closed (data_loss) when it was sealed under another key, for another source, or was changed. */
  unseal(sealed: Uint8Array, boundTo: string): Credentials {
    try {
      const bytes = Buffer.from(sealed);
      if (bytes[0] !== VERSION) throw new Error(`version ${bytes[0]}`);
      const nonce = bytes.subarray(1, 1 + NONCE_BYTES);
      const tag = bytes.subarray(1 + NONCE_BYTES, 1 + NONCE_BYTES + TAG_BYTES);
      const decipher = createDecipheriv(ALGORITHM, this.#key, nonce, { authTagLength: TAG_BYTES });
      decipher.setAuthTag(tag).setAAD(Buffer.from(boundTo));
      const text = Buffer.concat([decipher.update(bytes.subarray(1 + NONCE_BYTES + TAG_BYTES)), decipher.final()]);
      return parseCredentials(JSON.parse(text.toString('utf8')));
    } catch (error) {
      throw new BerthError('data_loss', 'vault.closed', 'the stored credentials of this source cannot be opened', {
        hint: 'was fleet.key replaced? remove the source and add it again',
        cause: error,
      });
    }
  }
}

async function readKey(path: string): Promise<Buffer | undefined> {
  let facts: Awaited<ReturnType<typeof files.stat>>;
  try {
    facts = await files.stat(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  if ((facts.mode & 0o077) !== 0) {
    const mode = (facts.mode & 0o777).toString(8);
    throw new BerthError(
      'denied',
      'vault.exposed',
      `the key ${path} has mode ${mode}: others than its owner can reach it`,
      {
        hint: `chmod 600 ${path}, and change the passwords of the sources if others may have read it`,
      },
    );
  }
  const key = await files.readFile(path);
  if (key.length !== KEY_BYTES)
    throw new BerthError('data_loss', 'vault.key', `the key ${path} has ${key.length} bytes instead of ${KEY_BYTES}`);
  return key;
}
