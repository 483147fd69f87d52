/**
 * One repository of one registry. Source: OCI distribution spec 1.1, "Pull"; Docker's registry API for schema 2 types.
 *
 * Retries: 5xx, 429 (Retry-After honoured) and lost connections, five times with doubling pauses; never other 4xx.
 * Redirects: five, never from https to http, and no Authorization to another host.
 */
import * as v from 'valibot';
import { BerthError, type Digest } from '#base';
import { type HttpRequest, type HttpResponse, httpRequest, isLoopbackHost, sleep, translateHttpError } from '#platform';
import { digestOfBytes } from '../layers/layer-conversion.ts';
import { CONFIG_MAX_BYTES, type Descriptor, MANIFEST_MAX_BYTES, MEDIA_TYPES } from './manifest.ts';
import { familiarName, type ImageReference, repositoryOf } from './reference.ts';
import { RegistryAuthorization, type RegistryCredentials } from './registry-auth.ts';
import { readBody } from './response-body.ts';

const MAX_ATTEMPTS = 5;
const MAX_REDIRECTS = 5;
const FIRST_PAUSE_MS = 250;
/** A server may ask for more patience than a person has. */
const MAX_PAUSE_MS = 60_000;
const ERROR_MAX_BYTES = 64 * 1024;

const ACCEPT = [
  MEDIA_TYPES.ociIndex,
  MEDIA_TYPES.dockerIndex,
  MEDIA_TYPES.ociManifest,
  MEDIA_TYPES.dockerManifest,
].join(', ');
const ErrorsSchema = v.object({
  errors: v.array(v.object({ code: v.optional(v.string(), ''), message: v.optional(v.string(), '') })),
});

export interface FetchedManifest {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly mediaType: string;
}

export class RegistryClient {
  readonly #base: URL;
  readonly #reference: ImageReference;
  readonly #authorization: RegistryAuthorization;
  readonly #signal: AbortSignal | undefined;

  constructor(reference: ImageReference, options: { credentials?: RegistryCredentials; signal?: AbortSignal } = {}) {
    this.#reference = reference;
    this.#base = new URL(registryUrl(reference.domain));
    this.#authorization = new RegistryAuthorization(options.credentials ?? {});
    this.#signal = options.signal;
  }

  /** @throws registry.manifest_not_found, registry.denied (not_found), registry.digest_mismatch (data_loss) and others. */
  async manifest(tagOrDigest: string): Promise<FetchedManifest> {
    const response = await this.#getWithRetries(`manifests/${tagOrDigest}`, { accept: ACCEPT });
    const bytes = await readBody(response, MANIFEST_MAX_BYTES, 'the manifest');
    const digest = digestOfBytes(bytes);
    if (tagOrDigest.startsWith('sha256:') && digest !== tagOrDigest) {
      throw new BerthError(
        'data_loss',
        'registry.digest_mismatch',
        `manifest verification failed for digest ${tagOrDigest}`,
      );
    }
    return { bytes, digest, mediaType: (response.headers['content-type'] ?? '').split(';')[0]?.trim() ?? '' };
  }

  /** A config: small, verified, whole in memory. */
  async config(descriptor: Descriptor): Promise<Buffer> {
    if (descriptor.size > CONFIG_MAX_BYTES) {
      throw new BerthError(
        'invalid',
        'registry.too_large',
        `the config of ${descriptor.size} bytes exceeds ${CONFIG_MAX_BYTES}`,
      );
    }
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of this.blob(descriptor)) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > descriptor.size) break;
    }
    const whole = Buffer.concat(chunks);
    if (whole.length !== descriptor.size || digestOfBytes(whole) !== descriptor.digest) {
      throw new BerthError(
        'data_loss',
        'registry.digest_mismatch',
        `image config verification failed for digest ${descriptor.digest}`,
      );
    }
    return whole;
  }

  /**
   * A blob's bytes in order, unverified; a broken connection is taken up again where it broke.
   * @param signal - instead of the client's own, for a download that several pulls share.
   */
  async *blob(descriptor: Descriptor, signal = this.#signal): AsyncGenerator<Buffer> {
    let offset = 0;
    for (let attempt = 1; ; attempt += 1) {
      try {
        const headers: Record<string, string> = offset === 0 ? {} : { range: `bytes=${offset}-${descriptor.size - 1}` };
        const response = await this.#getWithRetries(`blobs/${descriptor.digest}`, headers, signal);
        let skip = offset === 0 || response.status === 206 ? 0 : offset;
        if (response.status === 206) checkRange(response, offset, descriptor);
        for await (const chunk of bodyOf(response, this.#base, signal)) {
          const rest = skip === 0 ? chunk : chunk.subarray(Math.min(skip, chunk.length));
          skip -= chunk.length - rest.length;
          offset += rest.length;
          if (rest.length > 0) yield rest;
          // The receiver refuses a blob that is too large; nothing more is asked of this connection.
          if (offset > descriptor.size) return;
        }
        if (offset >= descriptor.size) return;
        throw new BerthError(
          'unavailable',
          'http.unreachable',
          `registry ${this.#base.host} ended blob ${descriptor.digest} after ${offset} of ${descriptor.size} bytes`,
        );
      } catch (error) {
        const isBroken = error instanceof BerthError && error.code === 'http.unreachable';
        if (!isBroken || attempt >= MAX_ATTEMPTS) throw error;
        await sleep(FIRST_PAUSE_MS * 2 ** (attempt - 1), signal);
      }
    }
  }

  async #getWithRetries(path: string, headers: Record<string, string>, signal = this.#signal): Promise<HttpResponse> {
    const url = new URL(`v2/${this.#reference.path}/${path}`, this.#base);
    for (let attempt = 1; ; attempt += 1) {
      let pauseMs = FIRST_PAUSE_MS * 2 ** (attempt - 1);
      try {
        const response = await this.#getAuthorised(url, headers, signal);
        if (response.status === 200 || response.status === 206) return response;
        const failure = await this.#failureOf(response, path);
        const isPassing = response.status >= 500 || response.status === 429;
        if (!isPassing || attempt >= MAX_ATTEMPTS) throw failure;
        pauseMs = Math.max(pauseMs, retryAfterMs(response.headers['retry-after']));
      } catch (error) {
        const isLost = error instanceof BerthError && error.code === 'http.unreachable';
        if (!isLost || attempt >= MAX_ATTEMPTS || isRefused(error)) throw error;
      }
      await sleep(Math.min(pauseMs, MAX_PAUSE_MS), signal);
    }
  }

  async #getAuthorised(
    url: URL,
    headers: Record<string, string>,
    signal: AbortSignal | undefined,
  ): Promise<HttpResponse> {
    const scope = `repository:${this.#reference.path}:pull`;
    for (let tries = 0; ; tries += 1) {
      const authorization = this.#authorization.headerFor(scope);
      const response = await followRedirects(
        {
          url,
          headers: { 'user-agent': 'berth', ...headers, ...(authorization === undefined ? {} : { authorization }) },
          ...(signal === undefined ? {} : { signal }),
        },
        MAX_REDIRECTS,
      );
      // Twice: a kept token may have run out, and its successor must be tried.
      if (response.status !== 401 || tries >= 2) return response;
      if (!(await this.#authorization.answer(response, scope, url, signal))) return response;
      response.body.destroy();
    }
  }

  async #failureOf(response: HttpResponse, path: string): Promise<BerthError> {
    const body = await readBody(response, ERROR_MAX_BYTES, 'the error').catch(() => Buffer.alloc(0));
    let detail = '';
    try {
      const first = v.parse(ErrorsSchema, JSON.parse(body.toString('utf8'))).errors[0];
      if (first !== undefined) detail = `${first.code.toLowerCase().replaceAll('_', ' ')}: ${first.message}`;
    } catch {
      // Not every server answers with the specification's JSON; the status alone decides then.
    }
    const name = familiarName(repositoryOf(this.#reference));
    const { status } = response;
    if (status === 404 && path.startsWith('manifests/')) {
      const tag = path.slice('manifests/'.length);
      const full = `${name}${tag.startsWith('sha256:') ? '@' : ':'}${tag}`;
      return new BerthError(
        'not_found',
        'registry.manifest_not_found',
        `manifest for ${full} not found: ${detail || 'manifest unknown'}`,
      );
    }
    if (status === 401 && this.#reference.domain !== 'docker.io') {
      return new BerthError(
        'unauthenticated',
        'registry.unauthorized',
        `registry ${this.#base.host} refuses: ${detail || 'no basic auth credentials'}`,
      );
    }
    if (status === 401 || status === 403 || status === 404) {
      const message = `pull access denied for ${name}, repository does not exist or may require 'docker login'${detail === '' ? '' : `: ${detail}`}`;
      return new BerthError('not_found', 'registry.denied', message);
    }
    const kind = status === 429 ? 'exhausted' : status >= 500 ? 'unavailable' : 'invalid';
    const code = status === 429 ? 'registry.too_many_requests' : 'registry.failed';
    return new BerthError(
      kind,
      code,
      `registry ${this.#base.host} answered ${status} for ${name}${detail === '' ? '' : `: ${detail}`}`,
    );
  }
}

/** Docker Hub's name is not its address; loopback registries speak plain HTTP, as Docker's built-in insecure list says. */
export function registryUrl(domain: string): string {
  if (domain === 'docker.io') return 'https://registry-1.docker.io/';
  const host = new URL(`http://${domain}/`).hostname;
  return `${isLoopbackHost(host) ? 'http' : 'https'}://${domain}/`;
}

/** @throws registry.bad_redirect (unavailable); what `httpRequest` throws. */
async function followRedirects(request: HttpRequest, left: number): Promise<HttpResponse> {
  const response = await httpRequest(request);
  const location = response.headers.location;
  if (![301, 302, 303, 307, 308].includes(response.status) || location === undefined) return response;
  response.body.destroy();
  const next = URL.parse(location, request.url.href);
  const isDowngrade = request.url.protocol === 'https:' && next?.protocol !== 'https:';
  if (left === 0 || next === null || !/^https?:$/.test(next.protocol) || isDowngrade) {
    const why = left === 0 ? 'too many times' : 'to an address that is not allowed';
    throw new BerthError('unavailable', 'registry.bad_redirect', `${request.url.host} redirects ${why}`);
  }
  const headers = { ...request.headers };
  if (next.host !== request.url.host) delete headers.authorization;
  return followRedirects({ ...request, url: next, headers }, left - 1);
}

async function* bodyOf(response: HttpResponse, url: URL, signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
  const iterator = response.body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  try {
    for (;;) {
      let next: IteratorResult<Buffer>;
      try {
        next = await iterator.next();
      } catch (error) {
        throw translateHttpError(error, url, signal);
      }
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    response.body.destroy();
  }
}

function checkRange(response: HttpResponse, offset: number, descriptor: Descriptor): void {
  const start = /^bytes ([0-9]+)-/.exec(response.headers['content-range'] ?? '')?.[1];
  if (start !== undefined && Number(start) === offset) return;
  response.body.destroy();
  throw new BerthError(
    'unavailable',
    'registry.bad_range',
    `the registry answered with a wrong part of blob ${descriptor.digest}`,
  );
}

function retryAfterMs(header: string | undefined): number {
  const seconds = Number(header ?? '0');
  return Number.isFinite(seconds) ? seconds * 1000 : 0;
}

/** Nobody listens, or the name does not exist: five more attempts would only keep a person waiting. */
function isRefused(error: BerthError): boolean {
  return /connection refused|no such host/.test(error.message);
}
