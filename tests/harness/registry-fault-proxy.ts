/**
 * A fault-injecting proxy in front of a real registry, and a stand-in for a token server.
 *
 * Every answer is the real registry's, except where the test's `fault` says otherwise for one request.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';

export type Fault =
  /** Cuts the connection after so many bytes of the body. */
  | { readonly kind: 'cut'; readonly afterBytes: number }
  /** Changes one byte of the body. */
  | { readonly kind: 'corrupt'; readonly atByte: number }
  /** Adds bytes to the end of the body. */
  | { readonly kind: 'oversize'; readonly extraBytes: number }
  /** Sends so many bytes and then nothing more until the client goes away. */
  | { readonly kind: 'stall'; readonly afterBytes: number }
  | { readonly kind: 'status'; readonly status: number; readonly headers?: Record<string, string> };

export interface SeenRequest {
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

export interface FaultProxy {
  readonly host: string;
  readonly seen: SeenRequest[];
  /** What to do to a request; `count` is how often this path was asked for before. */
  fault: (path: string, count: number) => Fault | undefined;
  stop(): Promise<void>;
}

export interface ProxyOptions {
  /** Asks for bearer tokens, which this stand-in token server gives to the user of this name and password. */
  readonly standInTokens?: { readonly username: string; readonly password: string };
}

const TOKEN = 'stand-in-token';

export async function startFaultProxy(upstream: string, options: ProxyOptions = {}): Promise<FaultProxy> {
  const counts = new Map<string, number>();
  const proxy: { fault: FaultProxy['fault'] } = { fault: () => undefined };
  const seen: SeenRequest[] = [];
  let host = '';
  const server = createServer((incoming, outgoing) => {
    const path = incoming.url ?? '';
    const { range, authorization } = incoming.headers;
    seen.push({ path, range, authorization });
    if (options.standInTokens !== undefined && answerTokens(incoming, outgoing, { ...options.standInTokens, host }))
      return;
    const count = counts.get(path) ?? 0;
    counts.set(path, count + 1);
    forward(incoming, outgoing, upstream, proxy.fault(path, count));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  host = `127.0.0.1:${address.port}`;
  const stop = async (): Promise<void> => {
    server.close();
    server.closeAllConnections();
    await once(server, 'close').catch(() => {});
  };
  return Object.assign(proxy, { host, seen, stop });
}

function answerTokens(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  facts: { readonly username: string; readonly password: string; readonly host: string },
): boolean {
  const { authorization } = incoming.headers;
  const url = new URL(incoming.url ?? '', `http://${facts.host}`);
  if (url.pathname === '/stand-in-token') {
    const wanted = `Basic ${Buffer.from(`${facts.username}:${facts.password}`).toString('base64')}`;
    const isGood = authorization === wanted && url.searchParams.get('scope')?.startsWith('repository:') === true;
    outgoing.writeHead(isGood ? 200 : 401, { 'content-type': 'application/json' });
    outgoing.end(JSON.stringify(isGood ? { token: TOKEN } : {}));
    return true;
  }
  if (authorization === `Bearer ${TOKEN}`) return false;
  const repository = /^\/v2\/(.*)\/(manifests|blobs)\//.exec(url.pathname)?.[1] ?? '';
  const challenge = `Bearer realm="http://${facts.host}/stand-in-token",service="stand-in",scope="repository:${repository}:pull"`;
  outgoing.writeHead(401, { 'www-authenticate': challenge });
  outgoing.end('{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}');
  return true;
}

function forward(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  upstream: string,
  fault: Fault | undefined,
): void {
  if (fault?.kind === 'status') {
    outgoing.writeHead(fault.status, fault.headers);
    outgoing.end();
    return;
  }
  const { host: _, authorization, ...headers } = incoming.headers;
  const passed = authorization?.startsWith('Basic') === true ? { ...headers, authorization } : headers;
  const [hostname, port] = upstream.split(':');
  const forwarded = request(
    { hostname, port, path: incoming.url, method: incoming.method, headers: passed },
    (answer) => {
      const kept = { ...answer.headers };
      if (fault?.kind === 'oversize') delete kept['content-length'];
      outgoing.writeHead(answer.statusCode ?? 500, kept);
      let sent = 0;
      answer.on('data', (chunk: Buffer) => {
        let bytes = chunk;
        if (fault?.kind === 'corrupt' && fault.atByte >= sent && fault.atByte < sent + chunk.length) {
          bytes = Buffer.from(chunk);
          bytes[fault.atByte - sent] = (bytes[fault.atByte - sent] ?? 0) ^ 0xff;
        }
        const stopAt = fault?.kind === 'cut' || fault?.kind === 'stall' ? fault.afterBytes : Number.POSITIVE_INFINITY;
        if (sent < stopAt) outgoing.write(bytes.subarray(0, stopAt - sent));
        sent += chunk.length;
        if (sent >= stopAt && fault?.kind === 'cut') setImmediate(() => outgoing.socket?.destroy());
      });
      answer.on('end', () => {
        if (fault?.kind === 'oversize') outgoing.write(Buffer.alloc(fault.extraBytes));
        if (fault?.kind !== 'stall') outgoing.end();
      });
    },
  );
  forwarded.on('error', () => outgoing.destroy());
  forwarded.end();
}
