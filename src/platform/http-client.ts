/**
 * The only door to HTTP servers. One request, one answer, no policy: redirects, retries and credentials belong to the
 * caller, who knows what they mean.
 */
import { type ClientRequest, Agent as HttpAgent, type IncomingMessage, request as requestPlain } from 'node:http';
import { Agent as HttpsAgent, request as requestTls } from 'node:https';
import { finished, type Readable } from 'node:stream';
import { BerthError, errnoOf, messageOf } from '#base';
import { connectTls } from './tls.ts';

export interface HttpRequest {
  readonly url: URL;
  readonly method?: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  readonly signal?: AbortSignal;
  /** Connections of one server with a trust of their own; without them the machine's authorities decide. */
  readonly through?: HttpsConnections;
  /** Milliseconds without a byte in either direction after which the connection counts as lost. Default 60,000. */
  readonly idleMs?: number;
}

export interface HttpResponse {
  readonly status: number;
  /** Names in lower case; a repeated header's values joined by ", ". */
  readonly headers: Readonly<Record<string, string>>;
  /** Must be read to its end or destroyed. */
  readonly body: Readable;
}

const DEFAULT_IDLE_MS = 60_000;
const CONNECTIONS_PER_HOST = 16;

// Connections are kept for the next request. Outside loopback the usual proxy variables hold, as for Docker.
const agentOptions = { keepAlive: true, maxSockets: CONNECTIONS_PER_HOST };
const loopbackAgent = new HttpAgent(agentOptions);
const plainAgent = new HttpAgent({ ...agentOptions, proxyEnv: process.env });
const loopbackTlsAgent = new HttpsAgent(agentOptions);
const tlsAgent = new HttpsAgent({ ...agentOptions, proxyEnv: process.env });

/** Connections to one server, kept between requests, whose certificate was judged before the first byte was sent. */
export interface HttpsConnections {
  readonly agent: HttpsAgent;
  /** Connections that are still being made end too: Node would keep their requests waiting until they are there. */
  close(): void;
}

/** How long a server may take to be connected and judged. */
const CONNECT_DEADLINE_MS = 15_000;

/** @param pin - SHA-256 of the one certificate that is accepted; without it the machine's authorities decide. */
export function httpsConnections(server: { host: string; port: number; pin: string | undefined }): HttpsConnections {
  const agent = new HttpsAgent(agentOptions);
  const closing = new AbortController();
  agent.createConnection = (_options, done) => {
    connectTls({ ...server, deadlineMs: CONNECT_DEADLINE_MS, signal: closing.signal }).then(
      (socket) => done?.(null, socket),
      (error: Error) => done?.(error, undefined as never),
    );
    return undefined;
  };
  return {
    agent,
    close: () => {
      closing.abort();
      agent.destroy();
    },
  };
}

/** Whether a host name or address can only be this machine: 127.0.0.0/8, ::1, localhost. */
export function isLoopbackHost(host: string): boolean {
  return /^(localhost|127(\.[0-9]{1,3}){3}|\[?::1\]?)$/.test(host);
}

/**
 * @throws http.unreachable (unavailable) when no answer came; http.cancelled (cancelled) when `signal` fired. An answer
 *   of any status is an answer. The body's stream fails with the same codes when the connection breaks in it.
 */
export function httpRequest(options: HttpRequest): Promise<HttpResponse> {
  const { url, signal } = options;
  const isTls = url.protocol === 'https:';
  const isLoopback = isLoopbackHost(url.hostname);
  const agent = isTls ? (isLoopback ? loopbackTlsAgent : tlsAgent) : isLoopback ? loopbackAgent : plainAgent;
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void => reject(translateHttpError(error, url, signal));
    let request: ClientRequest;
    try {
      const headers: Record<string, string> = { ...options.headers };
      if (options.body !== undefined) headers['content-length'] = String(Buffer.byteLength(options.body));
      request = (isTls ? requestTls : requestPlain)(url, {
        method: options.method ?? 'GET',
        headers,
        agent: options.through?.agent ?? agent,
        ...(signal === undefined ? {} : { signal }),
      });
    } catch (error) {
      fail(error);
      return;
    }
    request.setTimeout(options.idleMs ?? DEFAULT_IDLE_MS, () => request.destroy(new Error('the connection was idle')));
    request.on('error', fail);
    request.on('response', (response) => resolve(toResponse(response)));
    request.end(options.body);
  });
}

function toResponse(response: IncomingMessage): HttpResponse {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(response.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(', ') : value;
  }
  return { status: response.statusCode ?? 0, headers, body: response };
}

export interface BodyLimit {
  readonly mostBytes: number;
  readonly tooLarge: () => BerthError;
}

/** @throws what `tooLarge` makes, at once when there is more; else what broke the stream, untranslated. */
export async function readWhole(body: Readable, limit: BodyLimit): Promise<Buffer> {
  return await piecesOf(body, limit, (pieces, bytes) => Buffer.concat(pieces, bytes));
}

/** The same as text in UTF-8. */
export async function readWholeText(body: Readable, limit: BodyLimit): Promise<string> {
  return await piecesOf(body, limit, (pieces, bytes) => {
    if (bytes > SCRATCH_BYTES) return Buffer.concat(pieces, bytes).toString('utf8');
    scratch ??= Buffer.allocUnsafeSlow(SCRATCH_BYTES);
    let at = 0;
    for (const piece of pieces) at += piece.copy(scratch, at);
    return scratch.toString('utf8', 0, bytes);
  });
}

/** Where answers are put together: what lies outside of its heap and is thrown away makes V8 collect more often. */
const SCRATCH_BYTES = 4 * 1024 * 1024;
let scratch: Buffer | undefined;

/** Without an iterator between, which waits once for each piece: TLS has 16 KB in one. */
function piecesOf<T>(body: Readable, limit: BodyLimit, join: (pieces: Buffer[], bytes: number) => T): Promise<T> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let bytes = 0;
    body.on('data', (piece: Buffer) => {
      bytes += piece.length;
      if (bytes > limit.mostBytes) body.destroy(limit.tooLarge());
      else pieces.push(piece);
    });
    finished(body, { writable: false }, (error) => {
      if (error == null) resolve(join(pieces, bytes));
      else reject(error);
    });
  });
}

/** What broke a request or its body, in one sentence. */
export function translateHttpError(error: unknown, url: URL, signal?: AbortSignal): BerthError {
  if (error instanceof BerthError) return error;
  if (signal?.aborted === true) {
    return new BerthError('cancelled', 'http.cancelled', `the request to ${url.host} was cancelled`, { cause: error });
  }
  const errno = errnoOf(error);
  const why =
    errno === 'ECONNREFUSED' ? 'connection refused' : errno === 'ENOTFOUND' ? 'no such host' : messageOf(error);
  return new BerthError('unavailable', 'http.unreachable', `cannot reach ${url.protocol}//${url.host}: ${why}`, {
    cause: error,
  });
}
