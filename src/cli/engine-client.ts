/** The Docker Engine API as the commands use it. Answers come from our own daemon and are taken at their word. */
import type { Readable } from 'node:stream';
import { BerthError, type ErrorKind } from '#base';
import { type TakenOver, type UnixRequest, type UnixResponse, unixRequest, unixUpgrade } from '#platform';

const API = '/v1.50';
const KIND_OF_STATUS: Readonly<Record<number, ErrorKind>> = {
  400: 'invalid',
  401: 'unauthenticated',
  403: 'denied',
  404: 'not_found',
  409: 'conflict',
  499: 'cancelled',
  501: 'unsupported',
  504: 'timeout',
  507: 'exhausted',
};

export type Query = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

export interface Send {
  readonly query?: Query;
  readonly json?: unknown;
  readonly body?: Readable;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

export class EngineClient {
  readonly socketPath: string;
  readonly #startDaemon: (() => Promise<void>) | undefined;

  /** @param startDaemon - called once when nobody listens; undefined leaves it at the error. */
  constructor(socketPath: string, startDaemon: (() => Promise<void>) | undefined) {
    this.socketPath = socketPath;
    this.#startDaemon = startDaemon;
  }

  /** The answer's JSON; undefined when it has none. @throws engine.refused with the daemon's words. */
  async call<T>(method: string, path: string, send: Send = {}): Promise<T> {
    const text = await readText((await this.stream(method, path, send)).body);
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }

  /** The answer as it comes. @throws engine.refused with the daemon's words. */
  async stream(method: string, path: string, send: Send = {}): Promise<UnixResponse> {
    const request = this.#request(method, path, send);
    // A body can be sent once only: the daemon has to be there before.
    if (send.body !== undefined) await this.ping();
    const response = await this.#reaching(() => unixRequest(request));
    if (response.status >= 400) throw await refusal(response);
    return response;
  }

  /** Takes the connection over. @throws engine.refused with the daemon's words. */
  async upgrade(path: string, send: Send = {}): Promise<TakenOver> {
    const request = this.#request('POST', path, send);
    const answer = await this.#reaching(() => unixUpgrade(request));
    if ('socket' in answer) return answer;
    throw await refusal(answer);
  }

  async ping(): Promise<void> {
    const response = await this.#reaching(() =>
      unixRequest({ socketPath: this.socketPath, method: 'GET', path: '/_ping' }),
    );
    response.body.resume();
  }

  #request(method: string, path: string, send: Send): UnixRequest {
    const body = send.json === undefined ? send.body : JSON.stringify(send.json);
    const type = send.json === undefined ? {} : { 'Content-Type': 'application/json' };
    return {
      socketPath: this.socketPath,
      method,
      path: `${API}${path}${queryText(send.query ?? {})}`,
      headers: { ...type, ...send.headers },
      ...(body === undefined ? {} : { body }),
      ...(send.signal === undefined ? {} : { signal: send.signal }),
    };
  }

  async #reaching<T>(send: () => Promise<T>): Promise<T> {
    try {
      return await send();
    } catch (error) {
      const start = this.#startDaemon;
      if (start === undefined || !(error instanceof BerthError) || error.code !== 'unix.no_server') throw error;
      await start();
      return await send();
    }
  }
}

/** A path part that may hold slashes, as image names do. */
export function pathName(name: string): string {
  return name.split('/').map(encodeURIComponent).join('/');
}

export function queryText(query: Query): string {
  const words: string[] = [];
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined || value === false || value === '') continue;
    const values = Array.isArray(value) ? value : [value === true ? '1' : String(value)];
    for (const one of values) words.push(`${name}=${encodeURIComponent(one)}`);
  }
  return words.length === 0 ? '' : `?${words.join('&')}`;
}

/** `name=web`, `label=a=b` → Docker's `filters` parameter. @throws usage (invalid) */
export function filtersOf(words: readonly string[]): string | undefined {
  if (words.length === 0) return undefined;
  const filters: Record<string, Record<string, boolean>> = {};
  for (const word of words) {
    const equals = word.indexOf('=');
    if (equals <= 0)
      throw new BerthError('invalid', 'usage', `invalid argument "${word}" for --filter: expected name=value`);
    const name = word.slice(0, equals).trim().toLowerCase();
    filters[name] = { ...filters[name], [word.slice(equals + 1).trim()]: true };
  }
  return JSON.stringify(filters);
}

export async function readText(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

/** The objects of a stream of JSON, one a line. */
export async function* jsonLines<T>(stream: Readable): AsyncGenerator<T> {
  let rest = '';
  stream.setEncoding('utf8');
  for await (const chunk of stream) {
    const lines = (rest + (chunk as string)).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line.trim() !== '') yield JSON.parse(line) as T;
  }
  if (rest.trim() !== '') yield JSON.parse(rest) as T;
}

async function refusal(response: UnixResponse): Promise<BerthError> {
  const text = await readText(response.body);
  let message = text.trim();
  let hint: string | undefined;
  try {
    const told = JSON.parse(text) as { message?: string; hint?: string };
    message = told.message ?? message;
    hint = told.hint;
  } catch {
    // Not JSON: then the text itself is all there is to say.
  }
  const kind = KIND_OF_STATUS[response.status] ?? 'unavailable';
  return new BerthError(kind, 'engine.refused', message || `the daemon answered with status ${response.status}`, {
    facts: { status: response.status },
    ...(hint === undefined ? {} : { hint }),
  });
}
