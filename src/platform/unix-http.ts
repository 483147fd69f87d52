/**
 * HTTP over a unix socket, for clients of a daemon on this host: one connection for each request, and connections
 * that are taken over after `101 Switching Protocols`.
 *
 * Not on node:http: loading that alone takes longer than all the rest of a command (25 to 40 ms, measured 2026-11-21),
 * and every command waits for it.
 */
import { connect, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { BerthError, errnoOf, messageOf } from '#base';
import { type AnswerPart, AnswerReader } from './http-reader.ts';

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
  /** Must be read to its end or destroyed. Fails when the connection breaks in it. */
  readonly body: Readable;
}

export interface TakenOver {
  readonly socket: Socket;
  /** What came with the headers: it precedes everything the socket will give. */
  readonly head: Buffer;
}

/** @throws unix.no_server (unavailable) when nobody listens; unix.denied (denied); unix.broken (unavailable). */
export async function unixRequest(options: UnixRequest): Promise<UnixResponse> {
  const answer = await exchange(options);
  if ('socket' in answer) {
    answer.socket.destroy();
    throw new BerthError(
      'unavailable',
      'unix.broken',
      `${options.socketPath} changed the protocol without being asked`,
    );
  }
  return answer;
}

/** Asks for the raw connection. An answer other than 101 comes back as a plain response. Throws as `unixRequest`. */
export function unixUpgrade(options: UnixRequest): Promise<TakenOver | UnixResponse> {
  return exchange({ ...options, headers: { ...options.headers, Connection: 'Upgrade', Upgrade: 'tcp' } });
}

function exchange(options: UnixRequest): Promise<TakenOver | UnixResponse> {
  const { socketPath, method, signal } = options;
  return new Promise((resolve, reject) => {
    // Half-open: what the other side still has to say is read after our half has ended.
    const socket = connect({ path: socketPath, allowHalfOpen: true });
    const reader = new AnswerReader(method);
    let body: Readable | undefined;
    const fail = (error: unknown): void => {
      const told = translate(error, socketPath, signal);
      socket.destroy();
      if (body === undefined) reject(told);
      else body.destroy(told);
    };
    const take = (parts: readonly AnswerPart[]): void => {
      for (const [index, part] of parts.entries()) {
        if (part.kind === 'head' && part.head.status === 101) {
          release();
          const rest = parts.slice(index + 1).flatMap((one) => (one.kind === 'raw' ? [one.data] : []));
          resolve({ socket, head: Buffer.concat(rest) });
          return;
        }
        if (part.kind === 'head') {
          body = new Readable({
            read: () => socket.resume(),
            destroy: (error, done) => {
              socket.destroy();
              done(error);
            },
          });
          resolve({ status: part.head.status, body });
        } else if (part.kind === 'data') {
          if (body?.push(part.data) === false) socket.pause();
        } else if (part.kind === 'end') {
          body?.push(null);
          socket.end();
        }
      }
    };
    const onData = (data: Buffer): void => attempt(() => take(reader.feed(data)));
    const onEnd = (): void => attempt(() => take(reader.end()));
    const onAbort = (): void => fail(signal?.reason);
    const attempt = (action: () => void): void => {
      try {
        action();
      } catch (error) {
        fail(error);
      }
    };
    const release = (): void => {
      socket.off('data', onData).off('end', onEnd).off('error', fail);
      signal?.removeEventListener('abort', onAbort);
      socket.pause();
    };
    socket.on('data', onData).on('end', onEnd).on('error', fail);
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    send(socket, options).catch(fail);
  });
}

async function send(socket: Socket, options: UnixRequest): Promise<void> {
  const { method, path, body } = options;
  const headers: Record<string, string> = { Host: 'berth', Connection: 'close', ...options.headers };
  if (typeof body === 'string') headers['Content-Length'] = String(Buffer.byteLength(body));
  else if (body !== undefined) headers['Transfer-Encoding'] = 'chunked';
  else if (method !== 'GET' && method !== 'HEAD') headers['Content-Length'] = '0';
  const lines = Object.entries(headers).map(([name, value]) => {
    if (/[\r\n]/.test(value)) throw new BerthError('invalid', 'unix.header', `the header ${name} holds a line end`);
    return `${name}: ${value}\r\n`;
  });
  if (/[\s]/.test(path)) throw new BerthError('invalid', 'unix.path', `the path ${JSON.stringify(path)} holds blanks`);
  const head = `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`;
  socket.write(typeof body === 'string' ? head + body : head);
  if (body === undefined || typeof body === 'string') return;
  for await (const chunk of body) {
    const data = chunk as Buffer;
    if (data.length === 0) continue;
    if (socket.destroyed) return;
    socket.cork();
    socket.write(`${data.length.toString(16)}\r\n`);
    socket.write(data);
    const hasRoom = socket.write('\r\n');
    socket.uncork();
    if (!hasRoom) await drained(socket);
  }
  if (!socket.destroyed) socket.write('0\r\n\r\n');
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off('drain', done).off('close', done);
      resolve();
    };
    socket.on('drain', done).on('close', done);
  });
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
