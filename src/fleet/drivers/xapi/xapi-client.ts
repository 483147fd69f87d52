/**
 * XAPI's JSON-RPC 2.0 at one host, and its other HTTP handlers; no session, no policy.
 *
 *     POST /jsonrpc  {"jsonrpc":"2.0","method":"VM.get_all_records","params":[SESSION],"id":1}
 *     200            {"jsonrpc":"2.0","result":{…},"id":1}   or   {"jsonrpc":"2.0","error":{"code":1,"message":…,"data":[…]},"id":1}
 *
 * @source XenAPI wire protocol
 */
import * as v from 'valibot';
import { BerthError } from '#base';
import {
  type HttpResponse,
  type HttpsConnections,
  httpRequest,
  httpsConnections,
  readWholeText,
  startTimer,
} from '#platform';
import { meaningOf } from './failures.ts';

/** A VM's record has some 5 KB, a template's too; a pool of 64 hosts has a few thousand of both. */
const MOST_ANSWER_BYTES = 64 * 1024 * 1024;
/** The database answers within seconds even on a host that is busy. */
const CALL_DEADLINE_MS = 60_000;

const AnswerSchema = v.object({
  jsonrpc: v.optional(v.string()),
  id: v.number(),
  result: v.optional(v.unknown()),
  error: v.optional(v.object({ message: v.string(), data: v.fallback(v.array(v.string()), []) })),
});

export interface XapiServer {
  readonly host: string;
  readonly port: number;
  readonly pin: string | undefined;
}

export class XapiClient {
  readonly server: XapiServer;
  readonly #connections: HttpsConnections;
  /** Ends every call under way. */
  readonly #closing = new AbortController();
  #count = 0;

  constructor(server: XapiServer) {
    this.server = server;
    this.#connections = httpsConnections({ ...server, host: server.host.replace(/^\[|\]$/g, '') });
  }

  /** `rack1`, and the port when it is not 443. */
  get where(): string {
    return this.server.port === 443 ? this.server.host : `${this.server.host}:${this.server.port}`;
  }

  /**
   * @param params - the session first, but for logins.
   * @throws what the error code means; xapi.late (timeout), xapi.too_large, xapi.malformed, xapi.status, http.*, tls.*
   */
  async call(method: string, params: readonly unknown[], deadlineMs = CALL_DEADLINE_MS): Promise<unknown> {
    this.#count += 1;
    const id = this.#count;
    const text = await this.#fetch(
      { path: '/jsonrpc', what: method, deadlineMs },
      JSON.stringify({ jsonrpc: '2.0', method, params, id }),
    );
    const parsed = v.safeParse(AnswerSchema, parsedJson(text));
    if (!parsed.success || parsed.output.id !== id) throw this.#malformed(method, text);
    const { result, error } = parsed.output;
    if (error !== undefined) throw meaningOf(error.message, error.data, method);
    if (result === undefined) throw this.#malformed(method, text);
    return result;
  }

  /** @param path - with its query. The session may be in it: it is never part of a message. */
  get(path: string, what: string): Promise<string> {
    return this.#fetch({ path, what, deadlineMs: CALL_DEADLINE_MS });
  }

  close(): void {
    this.#closing.abort(new BerthError('unavailable', 'xapi.closed', 'the session with XAPI is closed'));
    this.#connections.close();
  }

  async #fetch(asked: { path: string; what: string; deadlineMs: number }, body?: string): Promise<string> {
    const { what, deadlineMs } = asked;
    const late = new AbortController();
    const timer = startTimer(deadlineMs, () => late.abort());
    try {
      const response = await httpRequest({
        url: new URL(asked.path, `https://${this.server.host}:${this.server.port}`),
        method: body === undefined ? 'GET' : 'POST',
        headers: body === undefined ? { accept: 'application/json' } : { 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body }),
        idleMs: deadlineMs,
        through: this.#connections,
        signal: AbortSignal.any([this.#closing.signal, late.signal]),
      });
      const text = await this.#textOf(response.body, what);
      if (response.status === 200) return text;
      const told = `${this.where} answered ${what} with status ${response.status}`;
      // A session that is over is told by handlers other than /jsonrpc so.
      if (response.status === 401 || response.status === 403)
        throw new BerthError('unavailable', 'xapi.expired', `${told}: the session is over`);
      const hint = 'is that the address of an XCP-ng or XenServer host?';
      throw new BerthError('unavailable', 'xapi.status', told, { hint });
    } catch (error) {
      if (!late.signal.aborted) throw this.#translated(error);
      const text = `${this.where} did not answer ${what} within ${deadlineMs} ms`;
      throw new BerthError('timeout', 'xapi.late', text, { cause: error });
    } finally {
      timer.cancel();
    }
  }

  async #textOf(body: HttpResponse['body'], what: string): Promise<string> {
    const tooLarge = (): BerthError => {
      const text = `the answer to ${what} has more than ${MOST_ANSWER_BYTES} bytes`;
      return new BerthError('exhausted', 'xapi.too_large', text);
    };
    return await readWholeText(body, { mostBytes: MOST_ANSWER_BYTES, tooLarge });
  }

  /** A body that breaks off is told by its stream, in Node's words. */
  #translated(error: unknown): unknown {
    if (error instanceof BerthError) return error;
    if (this.#closing.signal.aborted)
      return new BerthError('cancelled', 'xapi.closed', 'the session with XAPI is closed', { cause: error });
    return new BerthError('unavailable', 'xapi.cut', `the answer of ${this.where} broke off`, { cause: error });
  }

  #malformed(method: string, text: string): BerthError {
    const told = `${this.where} answered ${method} with something else than JSON-RPC: ${JSON.stringify(text.slice(0, 100))}`;
    const hint = 'is that the address of an XCP-ng or XenServer host, version 7.3 or later?';
    return new BerthError('invalid', 'xapi.malformed', told, { hint });
  }
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
