/**
 * A STAND-IN for a pool of XCP-ng or XenServer hosts, written from XAPI's published data model: classes and their fields, the
 * JSON-RPC wire protocol, error codes, event.from with its tokens, /rrd_updates. It is not XAPI, and no code of it is berth's
 * driver's. What the published text does not say it does not know either.
 *
 * Each member is an HTTPS server of its own: the first on 127.0.0.1, the second on 127.0.0.2 …, all on one port.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runChecked } from '#platform';
import { type StandInPool, XapiDatabase, XapiFailure } from './xapi-stand-in-database.ts';
import { answerCall } from './xapi-stand-in-methods.ts';
import { roundRobinText } from './xapi-stand-in-metrics.ts';

/** What a test has happen instead of an answer. */
export type Fault =
  | { readonly kind: 'raw'; readonly body: string | Buffer; readonly status?: number }
  /** The connection ends after so many bytes of the answer. */
  | { readonly kind: 'cut'; readonly afterBytes: number }
  /** The head of an answer, and then a blank every 50 ms. */
  | { readonly kind: 'drip' }
  /** No answer ever. */
  | { readonly kind: 'hang' };

export interface Member {
  readonly address: string;
  readonly hostRef: string;
  /** SHA-256 of its certificate, which nobody signed. */
  pin: string;
}

export class XapiStandIn implements StandInPool {
  readonly database = new XapiDatabase();
  readonly members: readonly Member[];
  readonly port: number;
  /** Index of the master among the members. */
  masterIndex = 0;
  readonly sessions = new Set<string>();
  /** Asked before each call is answered; may change the database. `rrd_updates` is a name of one too. */
  onCall: (method: string) => Fault | undefined = () => undefined;
  /** How the metrics handler writes numbers: XAPI 23.31 began to quote them. */
  numbers: 'quoted' | 'bare' = 'quoted';
  /** The hosts' clock less ours. */
  clockAheadMs = 0;
  /** Logins that were tried, right ones and wrong ones. */
  loginCount = 0;
  readonly #servers: Server[];
  readonly #folder: string;

  constructor(parts: { members: readonly Member[]; servers: Server[]; port: number; folder: string }) {
    this.members = parts.members;
    this.#servers = parts.servers;
    this.port = parts.port;
    this.#folder = parts.folder;
  }

  get url(): URL {
    return new URL(`xapi://${this.members[this.masterIndex]?.address}:${this.port}/`);
  }

  get master(): Member {
    const master = this.members[this.masterIndex];
    if (master === undefined) throw new Error('the pool has no master');
    return master;
  }

  /** Every session ends, as after a restart of the toolstack. */
  expireSessions(): void {
    this.sessions.clear();
    this.database.rouse();
  }

  /** The member shows another certificate from now on. @returns its pin */
  async renewCertificate(index: number): Promise<string> {
    const { key, cert, pin } = await makeCertificate(this.#folder, this.members[index]?.address ?? '');
    this.#servers[index]?.setSecureContext({ key, cert });
    this.#servers[index]?.closeAllConnections();
    const member = this.members[index];
    if (member !== undefined) member.pin = pin;
    return pin;
  }

  /** Nobody answers any more. Safe to call twice. */
  async kill(): Promise<void> {
    for (const server of this.#servers) {
      if (!server.listening) continue;
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async answer(memberIndex: number, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'https://stand-in');
    const body = await textOf(request);
    if (request.method === 'GET' && url.pathname === '/rrd_updates') {
      this.#send(response, this.onCall('rrd_updates'), () => {
        if (!this.sessions.has(url.searchParams.get('session_id') ?? '')) return { status: 401, text: 'not signed in' };
        const hostRef = this.members[memberIndex]?.hostRef ?? '';
        return { status: 200, text: roundRobinText(this, hostRef, url.searchParams) };
      });
      return;
    }
    if (request.method !== 'POST' || url.pathname !== '/jsonrpc') {
      response.writeHead(404).end('no such handler');
      return;
    }
    const { method, params, id, jsonrpc } = JSON.parse(body) as {
      method: string;
      params: unknown[];
      id: number;
      jsonrpc: string;
    };
    if (jsonrpc !== '2.0' || !Array.isArray(params) || id === undefined) {
      response.writeHead(500).end('<html>malformed</html>');
      return;
    }
    const fault = this.onCall(method);
    let text: string;
    try {
      const result = await answerCall({ pool: this, memberIndex, method, params });
      text = JSON.stringify({ jsonrpc: '2.0', result, id });
    } catch (error) {
      if (!(error instanceof XapiFailure)) throw error;
      text = JSON.stringify({ jsonrpc: '2.0', error: { code: 1, message: error.code, data: error.about }, id });
    }
    this.#send(response, fault, () => ({ status: 200, text }));
  }

  #send(response: ServerResponse, fault: Fault | undefined, make: () => { status: number; text: string }): void {
    if (response.destroyed) return;
    if (fault?.kind === 'hang') return;
    if (fault?.kind === 'drip') {
      response.writeHead(200, { 'content-type': 'application/json' });
      const timer = setInterval(() => response.write(' '), 50);
      response.once('close', () => clearInterval(timer));
      return;
    }
    if (fault?.kind === 'raw') {
      response.writeHead(fault.status ?? 200, { 'content-type': 'application/json' }).end(fault.body);
      return;
    }
    const { status, text } = make();
    const bytes = Buffer.from(text);
    response.writeHead(status, { 'content-type': 'application/json', 'content-length': bytes.length });
    if (fault === undefined) {
      response.end(bytes);
      return;
    }
    response.write(bytes.subarray(0, fault.afterBytes), () => response.destroy());
  }
}

/** @param hosts - members of the pool; each has its own control domain, and the pool a template and a snapshot. */
export async function startXapiStandIn(
  hosts = 2,
  options: { readonly certificate?: 'shared' } = {},
): Promise<XapiStandIn> {
  const folder = mkdtempSync(join(tmpdir(), 'berth-xapi-stand-in-'));
  let pool: XapiStandIn | undefined;
  const servers: Server[] = [];
  const members: Member[] = [];
  let port = 0;
  const shared = options.certificate === 'shared' ? await makeCertificate(folder, '127.0.0.1') : undefined;
  for (let index = 0; index < hosts; index += 1) {
    const address = `127.0.0.${index + 1}`;
    const { key, cert, pin } = shared ?? (await makeCertificate(folder, address));
    const server = createServer({ key, cert }, (request, response) => {
      pool?.answer(index, request, response).catch((error: unknown) => response.writeHead(500).end(String(error)));
    });
    server.listen(port, address);
    await once(server, 'listening');
    const bound = server.address();
    if (bound === null || typeof bound === 'string') throw new Error('no port');
    port = bound.port;
    servers.push(server);
    members.push({ address, pin, hostRef: `OpaqueRef:${randomUUID()}` });
  }
  pool = new XapiStandIn({ members, servers, port, folder });
  for (const [index, { address, hostRef }] of members.entries())
    pool.database.addHost(hostRef, { name: `xcp-${index + 1}`, address });
  pool.database.addPool(members[0]?.hostRef ?? '', 'lab-pool');
  return pool;
}

async function makeCertificate(folder: string, address: string): Promise<{ key: string; cert: string; pin: string }> {
  const name = join(folder, randomBytes(8).toString('hex'));
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', `${name}.key`];
  const names = ['-subj', `/CN=${address}`, '-addext', `subjectAltName=IP:${address}`];
  await runChecked(['openssl', 'req', '-x509', '-days', '2', ...key, ...names, '-out', `${name}.crt`]);
  const { stdout } = await runChecked(['openssl', 'x509', '-in', `${name}.crt`, '-noout', '-fingerprint', '-sha256']);
  const pin = stdout.trim().replace(/^.*=/, '').replaceAll(':', '').toLowerCase();
  return { key: readFileSync(`${name}.key`, 'utf8'), cert: readFileSync(`${name}.crt`, 'utf8'), pin };
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}
