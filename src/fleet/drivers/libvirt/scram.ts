/**
 * The client's half of a login by SCRAM: neither side sends the password, and each proves to the other that it knows it.
 *
 *     first() ──▶ server's challenge ──▶ answer() ──▶ server's signature ──▶ verify()
 *
 * Without channel binding, which libvirt does not offer. One object is one login.
 *
 * @source RFC 5802; RFC 7677 (SHA-256); RFC 4013 (how names and passwords are prepared)
 */
import { createHash, createHmac, pbkdf2, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { BerthError } from '#base';

export type ScramHash = 'sha1' | 'sha256' | 'sha512';

export interface ScramLogin {
  readonly hash: ScramHash;
  readonly user: string;
  readonly password: string;
  /** Printable ASCII without commas, never used before. */
  readonly nonce: string;
}

/** "n,,": no channel binding, no other identity. */
const GS2_HEADER = 'n,,';
/** RFC 7677 section 4: less makes guessing from what was overheard too cheap. */
const LEAST_ITERATIONS = 4_096;
/** About a second of one processor. More is a server that wants to keep us busy. */
const MOST_ITERATIONS = 1_000_000;
const MOST_CHALLENGE_CHARACTERS = 4_096;

const stretch = promisify(pbkdf2);

export class ScramClient {
  readonly #login: ScramLogin;
  readonly #firstBare: string;
  #expected: Buffer | undefined;

  /** @throws scram.unfit (invalid) for a name or password that no server can be given. */
  constructor(login: ScramLogin) {
    this.#login = { ...login, user: prepare(login.user, 'user'), password: prepare(login.password, 'password') };
    const name = this.#login.user.replaceAll('=', '=3D').replaceAll(',', '=2C');
    this.#firstBare = `n=${name},r=${login.nonce}`;
  }

  first(): string {
    return `${GS2_HEADER}${this.#firstBare}`;
  }

  /** @throws scram.challenge (invalid) for one that a server that keeps to the rules does not send. */
  async answer(challenge: string): Promise<string> {
    const { nonce, salt, iterations } = parseChallenge(challenge, this.#login.nonce);
    const { hash, password } = this.#login;
    const salted = await stretch(password, salt, iterations, createHash(hash).digest().length, hash);
    const hmac = (key: Buffer, text: string): Buffer => createHmac(hash, key).update(text, 'utf8').digest();
    const clientKey = hmac(salted, 'Client Key');
    const unproved = `c=${Buffer.from(GS2_HEADER).toString('base64')},r=${nonce}`;
    const exchanged = `${this.#firstBare},${challenge},${unproved}`;
    const signature = hmac(createHash(hash).update(clientKey).digest(), exchanged);
    const proof = clientKey.map((byte, at) => byte ^ (signature[at] ?? 0));
    this.#expected = hmac(hmac(salted, 'Server Key'), exchanged);
    return `${unproved},p=${Buffer.from(proof).toString('base64')}`;
  }

  /** @throws scram.refused, scram.impostor (unauthenticated): the server does not know the password either. */
  verify(final: string): void {
    const fields = final.split(',');
    const problem = fields.find((one) => one.startsWith('e='));
    if (problem !== undefined)
      throw new BerthError('unauthenticated', 'scram.refused', `the server refused: ${problem.slice(2, 102)}`);
    const told = Buffer.from(fields[0]?.startsWith('v=') === true ? fields[0].slice(2) : '', 'base64');
    const expected = this.#expected;
    if (expected !== undefined && told.length === expected.length && timingSafeEqual(told, expected)) return;
    throw new BerthError(
      'unauthenticated',
      'scram.impostor',
      'the server did not prove that it knows the password: its signature is wrong',
      { hint: 'somebody else may answer in its place' },
    );
  }
}

function parseChallenge(text: string, ours: string): { nonce: string; salt: Buffer; iterations: number } {
  const found = /^r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/]+={0,2}),i=([1-9][0-9]{0,9})(,.*)?$/s.exec(
    text.slice(0, MOST_CHALLENGE_CHARACTERS + 1),
  );
  if (found === null || text.length > MOST_CHALLENGE_CHARACTERS) throw unusable('it cannot be read');
  const [, nonce = '', salt = '', count = ''] = found;
  if (!nonce.startsWith(ours) || nonce.length === ours.length)
    throw unusable('its nonce does not go on from the one it was given');
  const iterations = Number(count);
  if (iterations < LEAST_ITERATIONS || iterations > MOST_ITERATIONS)
    throw unusable(`it asks for ${iterations} iterations; ${LEAST_ITERATIONS} to ${MOST_ITERATIONS} are accepted`);
  return { nonce, salt: Buffer.from(salt, 'base64'), iterations };
}

function unusable(why: string): BerthError {
  return new BerthError('invalid', 'scram.challenge', `the challenge of the server is not accepted: ${why}`);
}

/** RFC 3454 tables C.1.2 and B.1: other spaces are spaces, and what only shapes lines is nothing. */
const SPACES = /[^\P{Zs} ]/gu;
const NOTHING = /\u00ad|\u034f|\u1806|[\u180b-\u180d]|[\u200b-\u200d]|\u2060|[\ufe00-\ufe0f]|\ufeff/gu;
/** Tables C.2 to C.9 as far as Unicode's categories say them: control, private, half and no characters. */
const FORBIDDEN = /[\p{Cc}\p{Co}\p{Cs}\p{Noncharacter_Code_Point}\u200e\u200f\u202a-\u202e\u206a-\u206f\ufff9-\ufffd]/u;

/**
 * As it is compared and hashed: two ways to type one text become one. Unlike RFC 4013 it does not refuse mixed directions of
 * writing, which changes no text.
 */
export function prepare(text: string, what: 'user' | 'password'): string {
  const prepared = text.replace(SPACES, ' ').replace(NOTHING, '').normalize('NFKC');
  if (prepared !== '' && !FORBIDDEN.test(prepared)) return prepared;
  const why = prepared === '' ? 'is empty' : 'holds characters that a login may not have (control characters or such)';
  throw new BerthError('invalid', 'scram.unfit', `the ${what} ${why}`);
}
