/**
 * One HTTP/1.1 answer as a byte machine: it may be fed in any pieces. Only what a client of one request needs: status,
 * headers, and a body that is counted, chunked, or ends with the connection.
 *
 * @source RFC 9112
 */
import { BerthError } from '#base';

export interface AnswerHead {
  readonly status: number;
  /** Names in lower case; of a repeated header the last value. */
  readonly headers: Readonly<Record<string, string>>;
}

export type AnswerPart =
  | { readonly kind: 'head'; readonly head: AnswerHead }
  | { readonly kind: 'data'; readonly data: Buffer }
  | { readonly kind: 'end' }
  /** After 101: what follows is no HTTP. */
  | { readonly kind: 'raw'; readonly data: Buffer };

/** Far more than any head our daemon sends. */
const MAX_HEAD_BYTES = 64 * 1024;
const MAX_LINE_BYTES = 1024;

type State =
  | { readonly name: 'head' }
  | { readonly name: 'counted'; left: number }
  | { readonly name: 'until_close' }
  | { readonly name: 'chunk_size' }
  | { readonly name: 'chunk'; left: number }
  | { readonly name: 'chunk_end' }
  | { readonly name: 'trailer' }
  | { readonly name: 'ended' }
  | { readonly name: 'raw' };

export class AnswerReader {
  readonly #isHead: boolean;
  #state: State = { name: 'head' };
  #kept: Buffer = Buffer.alloc(0);

  /** @param method - the request's: the answer to HEAD has no body. */
  constructor(method: string) {
    this.#isHead = method === 'HEAD';
  }

  /** @throws http.malformed (unavailable) for bytes that are no HTTP/1.1 answer. */
  feed(data: Buffer): AnswerPart[] {
    const parts: AnswerPart[] = [];
    this.#kept = this.#kept.length === 0 ? data : Buffer.concat([this.#kept, data]);
    while (this.#step(parts)) {
      // Each step takes something from what is kept, until there is too little.
    }
    return parts;
  }

  /** The connection has ended. @throws http.cut (unavailable) when it may not end here. */
  end(): AnswerPart[] {
    if (this.#state.name === 'ended' || this.#state.name === 'raw') return [];
    if (this.#state.name !== 'until_close') {
      throw new BerthError('unavailable', 'http.cut', 'the connection ended before the answer did');
    }
    this.#state = { name: 'ended' };
    return [{ kind: 'end' }];
  }

  #step(parts: AnswerPart[]): boolean {
    const state = this.#state;
    switch (state.name) {
      case 'head':
        return this.#readHead(parts);
      case 'counted':
      case 'chunk': {
        if (this.#kept.length === 0) return false;
        const data = this.#take(Math.min(state.left, this.#kept.length));
        state.left -= data.length;
        parts.push({ kind: 'data', data });
        if (state.left > 0) return false;
        if (state.name === 'chunk') this.#state = { name: 'chunk_end' };
        else this.#finish(parts);
        return true;
      }
      case 'until_close':
      case 'raw': {
        if (this.#kept.length === 0) return false;
        parts.push({ kind: state.name === 'raw' ? 'raw' : 'data', data: this.#take(this.#kept.length) });
        return false;
      }
      case 'chunk_size': {
        const line = this.#line();
        if (line === undefined) return false;
        if (!/^[0-9a-f]{1,12}\s*(;.*)?$/i.test(line)) throw malformed(`chunk size ${JSON.stringify(line)}`);
        const left = Number.parseInt(line, 16);
        this.#state = left === 0 ? { name: 'trailer' } : { name: 'chunk', left };
        return true;
      }
      case 'chunk_end': {
        const line = this.#line();
        if (line === undefined) return false;
        if (line !== '') throw malformed('a chunk is longer than it says');
        this.#state = { name: 'chunk_size' };
        return true;
      }
      case 'trailer': {
        const line = this.#line();
        if (line === undefined) return false;
        if (line === '') this.#finish(parts);
        return true;
      }
      case 'ended':
        return false;
    }
  }

  #readHead(parts: AnswerPart[]): boolean {
    const end = this.#kept.indexOf('\r\n\r\n');
    if (end < 0) {
      if (this.#kept.length > MAX_HEAD_BYTES) throw malformed('its head has no end');
      return false;
    }
    const [first = '', ...lines] = this.#take(end + 4)
      .toString('latin1')
      .slice(0, -4)
      .split('\r\n');
    const status = Number(/^HTTP\/1\.[01] ([0-9]{3})(?: |$)/.exec(first)?.[1] ?? Number.NaN);
    if (Number.isNaN(status)) throw malformed(`status line ${JSON.stringify(first.slice(0, 80))}`);
    // 100 Continue and its kind come before the answer proper.
    if (status < 200 && status !== 101) return true;
    const headers: Record<string, string> = {};
    for (const line of lines) {
      const colon = line.indexOf(':');
      if (colon > 0) headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    parts.push({ kind: 'head', head: { status, headers } });
    this.#state = this.#bodyOf(status, headers);
    if (this.#state.name === 'ended') parts.push({ kind: 'end' });
    return true;
  }

  #bodyOf(status: number, headers: Readonly<Record<string, string>>): State {
    if (status === 101) return { name: 'raw' };
    if (this.#isHead || status === 204 || status === 304) return { name: 'ended' };
    if (/\bchunked$/i.test(headers['transfer-encoding'] ?? '')) return { name: 'chunk_size' };
    const length = headers['content-length'];
    if (length === undefined) return { name: 'until_close' };
    if (!/^[0-9]{1,15}$/.test(length)) throw malformed(`length ${JSON.stringify(length)}`);
    return length === '0' ? { name: 'ended' } : { name: 'counted', left: Number(length) };
  }

  #finish(parts: AnswerPart[]): void {
    this.#state = { name: 'ended' };
    parts.push({ kind: 'end' });
  }

  #line(): string | undefined {
    const end = this.#kept.indexOf('\r\n');
    if (end < 0) {
      if (this.#kept.length > MAX_LINE_BYTES) throw malformed('a line has no end');
      return undefined;
    }
    return this.#take(end + 2)
      .toString('latin1')
      .slice(0, -2);
  }

  #take(length: number): Buffer {
    const taken = this.#kept.subarray(0, length);
    this.#kept = this.#kept.subarray(length);
    return taken;
  }
}

function malformed(what: string): BerthError {
  return new BerthError('unavailable', 'http.malformed', `the answer is no HTTP/1.1: ${what}`);
}
