/** Proving oneself to a registry. Source: RFC 7235 (challenges), distribution spec "Token Authentication". */
import * as v from 'valibot';
import { BerthError } from '#base';
import { type HttpResponse, httpRequest, isLoopbackHost } from '#platform';
import { parseJson } from './manifest.ts';
import { readBody } from './response-body.ts';

/** As Docker's `X-Registry-Auth` carries them. An identity token is an OAuth 2 refresh token. */
export interface RegistryCredentials {
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly identityToken?: string | undefined;
  /** A bearer token to be used as it is. */
  readonly registryToken?: string | undefined;
}

interface Challenge {
  readonly scheme: 'basic' | 'bearer';
  readonly parameters: ReadonlyMap<string, string>;
}

const TokenSchema = v.object({ token: v.nullish(v.string()), access_token: v.nullish(v.string()) });
const TOKEN_MAX_BYTES = 256 * 1024;

/** The first challenge that berth can answer; bearer before basic. */
export function parseChallenges(header: string): Challenge | undefined {
  const challenges: Challenge[] = [];
  // A challenge begins with a scheme and a blank; its parameters are `name=value` or `name="value"`.
  const pattern = /(?:^|,\s*)(basic|bearer)\b|([a-z_-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/gi;
  let parameters = new Map<string, string>();
  for (const match of header.matchAll(pattern)) {
    if (match[1] !== undefined) {
      parameters = new Map();
      challenges.push({ scheme: match[1].toLowerCase() === 'basic' ? 'basic' : 'bearer', parameters });
    } else if (match[2] !== undefined) {
      parameters.set(match[2].toLowerCase(), (match[3] ?? match[4] ?? '').replace(/\\(.)/g, '$1'));
    }
  }
  return challenges.find(({ scheme }) => scheme === 'bearer') ?? challenges[0];
}

/** The `Authorization` header for one registry; tokens are asked for when the registry says so, and kept per scope. */
export class RegistryAuthorization {
  readonly #credentials: RegistryCredentials;
  readonly #tokens = new Map<string, string>();
  #usesBasic = false;

  constructor(credentials: RegistryCredentials) {
    this.#credentials = credentials;
  }

  headerFor(scope: string): string | undefined {
    if (this.#credentials.registryToken !== undefined) return `Bearer ${this.#credentials.registryToken}`;
    const token = this.#tokens.get(scope);
    if (token !== undefined) return `Bearer ${token}`;
    return this.#usesBasic ? this.#basic() : undefined;
  }

  /**
   * Answers a 401. True when a repeated request has a new header to try.
   *
   * @throws registry.bad_challenge (unavailable); registry.unauthorized (unauthenticated) when the token server refuses.
   */
  async answer(response: HttpResponse, scope: string, url: URL, signal: AbortSignal | undefined): Promise<boolean> {
    const challenge = parseChallenges(response.headers['www-authenticate'] ?? '');
    if (challenge === undefined) return false;
    if (challenge.scheme === 'basic') {
      if (this.#usesBasic || this.#basic() === undefined) return false;
      this.#usesBasic = true;
      return true;
    }
    const token = await this.#fetchToken(challenge, scope, url, signal);
    if (this.#tokens.get(scope) === token) return false;
    this.#tokens.set(scope, token);
    return true;
  }

  #basic(): string | undefined {
    const { username, password } = this.#credentials;
    if (!username || password === undefined) return undefined;
    return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  }

  async #fetchToken(
    challenge: Challenge,
    scope: string,
    registry: URL,
    signal: AbortSignal | undefined,
  ): Promise<string> {
    const realm = URL.parse(challenge.parameters.get('realm') ?? '');
    // Credentials never leave over plain HTTP, unless the registry itself is on this machine.
    const isSafe =
      realm?.protocol === 'https:' ||
      (realm?.protocol === 'http:' && isLoopbackHost(registry.hostname) && isLoopbackHost(realm.hostname));
    if (realm === null || !isSafe) {
      throw new BerthError(
        'unavailable',
        'registry.bad_challenge',
        `registry ${registry.host} names no usable token server`,
      );
    }
    const query = new URLSearchParams();
    const service = challenge.parameters.get('service');
    if (service !== undefined) query.set('service', service);
    query.set('scope', challenge.parameters.get('scope') ?? scope);
    const { identityToken, username } = this.#credentials;
    const common = signal === undefined ? {} : { signal };
    let response: HttpResponse;
    if (identityToken) {
      query.set('grant_type', 'refresh_token');
      query.set('refresh_token', identityToken);
      query.set('client_id', 'berth');
      const headers = { 'content-type': 'application/x-www-form-urlencoded' };
      response = await httpRequest({ url: realm, method: 'POST', headers, body: query.toString(), ...common });
    } else {
      if (username) query.set('account', username);
      for (const [name, value] of query) realm.searchParams.append(name, value);
      const basic = this.#basic();
      response = await httpRequest({
        url: realm,
        ...(basic === undefined ? {} : { headers: { authorization: basic } }),
        ...common,
      });
    }
    const body = await readBody(response, TOKEN_MAX_BYTES, 'the token');
    if (response.status === 401 || response.status === 403) {
      throw new BerthError(
        'unauthenticated',
        'registry.unauthorized',
        `registry ${registry.host}: incorrect username or password`,
      );
    }
    if (response.status !== 200) {
      throw new BerthError(
        'unavailable',
        'registry.token_failed',
        `token server ${realm.host} answered ${response.status}`,
      );
    }
    const answer = parseJson(TokenSchema, body, `the answer of token server ${realm.host}`);
    const token = answer.token || answer.access_token;
    if (!token) {
      throw new BerthError(
        'unavailable',
        'registry.token_failed',
        `token server ${realm.host} answered without a token`,
      );
    }
    return token;
  }
}
