/**
 * HTTP over a unix socket, for clients of a daemon on this host: one connection for each request, and connections
 * that are taken over after `101 Switching Protocols`.
 */
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { BerthError, errnoOf, messageOf } from '#base';

export interface UnixRequest {
  readonly socketPath: string;
  readonly method: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Readable;
  readonly signal?: AbortSignal;
}

export interface UnixResponse {
  readonly status: number;
  /** Must be read to its end or destroyed. */
  readonly body: Readable;
}

export interface TakenOver {
  readonly socket: Socket;
  /** What came with the headers: it precedes everything the socket will give. */
  readonly head: Buffer;
}

/** @throws unix.no_server (unavailable) when nobody listens; unix.denied (denied); unix.broken (unavailable). */
export function unixRequest(options: UnixRequest): Promise<UnixResponse> {
  return new Promise((resolve, reject) => {
    const sent = open(options, reject);
    sent.on('response', (response: IncomingMessage) => resolve({ status: response.statusCode ?? 0, body: response }));
    finish(sent, options.body, reject);
  });
}

/** Asks for the raw connection. An answer other than 101 comes back as a plain response. Throws as `unixRequest`. */
export function unixUpgrade(options: UnixRequest): Promise<TakenOver | UnixResponse> {
  return new Promise((resolve, reject) => {
    const headers = { ...options.headers, Connection: 'Upgrade', Upgrade: 'tcp' };
    const sent = open({ ...options, headers }, reject);
    sent.on('upgrade', (_response, socket, head) => {
      resolve({ socket: socket as Socket, head });
    });
    sent.on('response', (response: IncomingMessage) => resolve({ status: response.statusCode ?? 0, body: response }));
    finish(sent, options.body, reject);
  });
}

function open(options: UnixRequest, reject: (error: unknown) => void): ClientRequest {
  const { socketPath, method, path, body, signal } = options;
  const headers: Record<string, string> = { Host: 'berth', ...options.headers };
  if (typeof body === 'string') headers['Content-Length'] = String(Buffer.byteLength(body));
  else if (body === undefined && method !== 'GET' && method !== 'HEAD') headers['Content-Length'] = '0';
  const sent = request({
    socketPath,
    method,
    path,
    headers,
    agent: false,
    ...(signal === undefined ? {} : { signal }),
  });
  sent.on('error', (error) => reject(translate(error, socketPath, signal)));
  return sent;
}

function finish(sent: ClientRequest, body: string | Readable | undefined, reject: (error: unknown) => void): void {
  if (body === undefined || typeof body === 'string') {
    sent.end(body);
    return;
  }
  body.on('error', (error) => {
    sent.destroy();
    reject(error);
  });
  body.pipe(sent);
}

function translate(error: unknown, socketPath: string, signal: AbortSignal | undefined): BerthError {
  if (error instanceof BerthError) return error;
  if (signal?.aborted === true) {
    return new BerthError('cancelled', 'unix.cancelled', 'the request was cancelled', { cause: error });
  }
  const errno = errnoOf(error);
  if (errno === 'ENOENT' || errno === 'ECONNREFUSED') {
    return new BerthError('unavailable', 'unix.no_server', `no berth daemon listens on ${socketPath}`, {
      hint: 'start it with "berth daemon start"',
      cause: error,
    });
  }
  if (errno === 'EACCES') {
    return new BerthError('denied', 'unix.denied', `this user may not connect to ${socketPath}`, {
      hint: 'run as the user who started the daemon, or as root',
      cause: error,
    });
  }
  return new BerthError('unavailable', 'unix.broken', `the connection to ${socketPath} broke: ${messageOf(error)}`, {
    cause: error,
  });
}
