import { createServer, type IncomingMessage, type Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { BerthError } from '#base';
import { chmod, chown, rm } from './files.ts';

export type { IncomingMessage, Server, ServerResponse, Socket };

export interface HttpHandlers {
  onRequest(request: IncomingMessage, response: ServerResponse): void;
  /** A request with `Connection: Upgrade`: the body has not been read; `head` holds what came with the headers. */
  onUpgrade(request: IncomingMessage, socket: Socket, head: Buffer): void;
}

export interface UnixListener {
  readonly path: string;
  readonly mode: number;
  /** Group that may connect beside root. */
  readonly gid?: number | undefined;
}

/**
 * Serves HTTP on a unix socket. The socket of a dead daemon is replaced: the caller holds the state folder's lock.
 *
 * Time limits for a whole request are off, since loads and builds may take hours; for the headers 60 s stay.
 *
 * @throws socket.too_long (invalid): Linux takes 107 bytes.
 */
export async function serveHttp(listener: UnixListener, handlers: HttpHandlers): Promise<Server> {
  if (Buffer.byteLength(listener.path) > 107) {
    throw new BerthError('invalid', 'socket.too_long', `the socket path ${listener.path} is longer than 107 bytes`);
  }
  const server = createServer({ requestTimeout: 0, headersTimeout: 60_000, keepAliveTimeout: 60_000, noDelay: true });
  server.on('request', handlers.onRequest);
  server.on('upgrade', (request, socket, head) => handlers.onUpgrade(request, socket as Socket, head));
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
  });
  await rm(listener.path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(listener.path, resolve);
  });
  await chmod(listener.path, listener.mode);
  if (listener.gid !== undefined) await chown(listener.path, 0, listener.gid);
  return server;
}

/** A response object for a request that asked for an upgrade and is answered plainly. */
export function plainResponse(request: IncomingMessage, socket: Socket): ServerResponse {
  const response = new ServerResponse(request);
  response.shouldKeepAlive = false;
  response.assignSocket(socket);
  response.once('finish', () => {
    socket.end();
    // Read on, or the client's own end is never seen and the socket stays open.
    socket.resume();
  });
  return response;
}
