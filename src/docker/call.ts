/**
 * One HTTP call, plain or upgraded, as a handler sees it.
 *
 * Docker's streaming endpoints take over the connection in two ways: clients that ask for an upgrade get 101, others a
 * 200 whose body is the stream. `takeOver` hides the difference.
 */
import { PassThrough, type Readable, type Writable } from 'node:stream';
import * as v from 'valibot';
import { BerthError, messageOf } from '#base';
import {
  type IncomingMessage,
  plainResponse,
  type ServerResponse,
  type Socket,
  startTimer,
  type Timer,
} from '#platform';
import { problemOf } from './problems.ts';

/** JSON bodies: dockerd takes any size; 4 MiB is ten times the largest create call seen. */
const MAX_JSON_BYTES = 4 * 1024 * 1024;
/** Of a body that is too large, read so that the refusal arrives; what goes on beyond is cut off. */
const MAX_DROPPED_BYTES = 64 * 1024 * 1024;
/** A client that has sent nothing more for so long waits for its answer. */
const DROP_IDLE_MS = 250;

/** The last chunk of a body. @source RFC 9112, section 7.1 */
const END_OF_CHUNKS = Buffer.from('0\r\n\r\n');

export interface TakenOver {
  /** What the client sends; ends when it closes or half-closes. */
  readonly input: Readable;
  readonly output: Writable;
}

export class Call {
  readonly request: IncomingMessage;
  readonly query: URLSearchParams;
  readonly parameters: Readonly<Record<string, string>>;
  /** The API version of the path, such as [1, 50]; the newest one without a prefix. */
  readonly version: readonly [number, number];
  /** Fires when the client has left before the answer was complete. */
  readonly signal: AbortSignal;
  readonly #response: ServerResponse | undefined;
  readonly #socket: Socket | undefined;
  readonly #headers: readonly (readonly [string, string])[];
  #head: Buffer;

  constructor(options: {
    readonly request: IncomingMessage;
    readonly response: ServerResponse | undefined;
    readonly upgrade: { readonly socket: Socket; readonly head: Buffer } | undefined;
    readonly query: URLSearchParams;
    readonly parameters: Readonly<Record<string, string>>;
    readonly version: readonly [number, number];
    /** Headers of every plain answer. */
    readonly headers: readonly (readonly [string, string])[];
  }) {
    this.request = options.request;
    this.query = options.query;
    this.parameters = options.parameters;
    this.version = options.version;
    this.#headers = options.headers;
    for (const [name, value] of options.headers) options.response?.setHeader(name, value);
    this.#response = options.response;
    this.#socket = options.upgrade?.socket;
    this.#head = options.upgrade?.head ?? Buffer.alloc(0);
    const gone = new AbortController();
    this.signal = gone.signal;
    const watched = this.#response ?? this.#socket;
    watched?.once('close', () => {
      if (this.#response?.writableFinished !== true)
        gone.abort(new BerthError('cancelled', 'request.gone', 'the client left'));
    });
    this.#socket?.on('error', () => {});
  }

  /** A path parameter. */
  parameter(name: string): string {
    const value = this.parameters[name];
    if (value === undefined) throw new BerthError('bug', 'route.no_parameter', `the route has no parameter ${name}`);
    return value;
  }

  /** A query value as Docker reads booleans: absent, empty, 0, f, false and no are false. */
  flag(name: string, whenAbsent = false): boolean {
    const value = this.query.get(name);
    if (value === null) return whenAbsent;
    return !['', '0', 'f', 'false', 'no', 'none'].includes(value.trim().toLowerCase());
  }

  /** A query value as a whole number. @throws request.not_a_number (invalid) */
  number(name: string): number | undefined {
    const value = this.query.get(name);
    if (value === null || value === '') return undefined;
    const number = Number(value);
    if (!Number.isFinite(number)) {
      throw new BerthError('invalid', 'request.not_a_number', `${name}: ${JSON.stringify(value)} is not a number`);
    }
    return number;
  }

  /** Whether the path asks for at least this API version. */
  atLeast(major: number, minor: number): boolean {
    return this.version[0] > major || (this.version[0] === major && this.version[1] >= minor);
  }

  /**
   * The body as JSON, checked. An absent body reads as `{}`.
   *
   * @throws request.malformed (invalid) listing every problem; request.too_large (invalid).
   */
  async json<Schema extends v.GenericSchema>(schema: Schema): Promise<v.InferOutput<Schema>> {
    const text = (await this.#body()).toString('utf8');
    let value: unknown;
    try {
      value = text.trim() === '' ? {} : JSON.parse(text);
    } catch (error) {
      throw new BerthError('invalid', 'request.malformed', `the request body is not JSON: ${messageOf(error)}`);
    }
    const parsed = v.safeParse(schema, value);
    if (parsed.success) return parsed.output;
    const problems = parsed.issues.map((issue) => `${v.getDotPath(issue) ?? 'body'}: ${issue.message}`);
    throw new BerthError('invalid', 'request.malformed', `invalid request: ${problems.join('; ')}`);
  }

  /** The body as a stream, for archives. */
  bodyStream(): Readable {
    return this.request;
  }

  reply(status: number, body?: unknown, headers: Readonly<Record<string, string>> = {}): void {
    const response = this.#plain();
    if (body === undefined) {
      response.writeHead(status, {
        ...headers,
        ...(status === 204 || status === 304 ? {} : { 'Content-Length': '0' }),
      });
      response.end();
      return;
    }
    const text = `${JSON.stringify(body)}\n`;
    response.writeHead(status, {
      ...headers,
      'Content-Type': 'application/json',
      'Content-Length': Buffer.byteLength(text),
    });
    response.end(this.request.method === 'HEAD' ? undefined : text);
  }

  replyText(text: string, headers: Readonly<Record<string, string>>): void {
    const response = this.#plain();
    response.writeHead(200, {
      'Content-Type': 'text/plain; charset=utf-8',
      ...headers,
      'Content-Length': Buffer.byteLength(text),
    });
    response.end(this.request.method === 'HEAD' ? undefined : text);
  }

  /** An answer that comes bit by bit: the headers leave at once. */
  stream(contentType: string): ServerResponse {
    const response = this.#plain();
    response.writeHead(200, { 'Content-Type': contentType });
    response.flushHeaders();
    return response;
  }

  /** Ends the call with an error, or cuts the connection when the answer has already begun. */
  fail(error: unknown): void {
    const { status, message } = problemOf(error);
    const response = this.#response;
    if (response?.headersSent === true || (this.#socket !== undefined && this.#tookOver)) {
      (response ?? this.#socket)?.destroy();
      return;
    }
    if (this.signal.aborted) return;
    if (status === 304) this.reply(304);
    else this.reply(status, { message });
  }

  #tookOver = false;
  #hasReadBody = false;

  /**
   * Takes over the connection for a two-way stream.
   *
   * A body that no `json` has read is dropped, it is not input: dockerode repeats its query in one. Input then comes over
   * an upgraded connection, or in a chunked body; a plain request without one has none, and ends it by leaving.
   */
  async takeOver(contentType: string): Promise<TakenOver> {
    if (this.#socket !== undefined && !this.#hasReadBody) await this.#body();
    this.#tookOver = true;
    if (this.#socket === undefined) {
      const response = this.#plain();
      response.useChunkedEncodingByDefault = false;
      response.shouldKeepAlive = false;
      response.writeHead(200, { 'Content-Type': 'application/vnd.docker.raw-stream', Connection: 'close' });
      response.flushHeaders();
      const input = new PassThrough();
      if (this.#isChunked && !this.#hasReadBody) this.request.pipe(input);
      else {
        this.request.resume();
        response.once('close', () => input.end());
      }
      return { input, output: response };
    }
    const socket = this.#socket;
    socket.write(
      `HTTP/1.1 101 UPGRADED\r\nContent-Type: ${contentType}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n`,
    );
    // A client that announced a chunked body and sent none: its end is no input for the process.
    const isEmptyBody = this.#isChunked && this.#head.subarray(0, END_OF_CHUNKS.length).equals(END_OF_CHUNKS);
    const rest = isEmptyBody ? this.#head.subarray(END_OF_CHUNKS.length) : this.#head;
    if (rest.length > 0) socket.unshift(rest);
    this.#head = Buffer.alloc(0);
    return { input: socket, output: socket };
  }

  get #isChunked(): boolean {
    return /\bchunked\b/i.test(this.request.headers['transfer-encoding'] ?? '');
  }

  #plain(): ServerResponse {
    if (this.#response !== undefined) return this.#response;
    if (this.#socket === undefined) throw new BerthError('bug', 'call.nowhere', 'the call has no connection');
    const response = plainResponse(this.request, this.#socket);
    for (const [name, value] of this.#headers) response.setHeader(name, value);
    return response;
  }

  async #body(): Promise<Buffer> {
    this.#hasReadBody = true;
    if (this.#socket !== undefined) return await this.#upgradeBody(this.#socket);
    const chunks: Buffer[] = [];
    let size = 0;
    // Not for-await: leaving that loop early would cut the connection before the refusal is sent.
    await new Promise<void>((resolve, reject) => {
      let idle: Timer | undefined;
      const refuse = (): void => reject(tooLarge());
      this.request.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size <= MAX_JSON_BYTES) {
          chunks.push(chunk);
          return;
        }
        // The rest is read and dropped first: a connection closed over unread bytes takes the refusal with it.
        chunks.length = 0;
        idle?.cancel();
        if (size > MAX_DROPPED_BYTES) refuse();
        else idle = startTimer(DROP_IDLE_MS, refuse);
      });
      this.request.once('end', () => (size <= MAX_JSON_BYTES ? resolve() : refuse()));
      this.request.once('close', () => {
        idle?.cancel();
        reject(new BerthError('cancelled', 'request.gone', 'the client left in the middle of the request'));
      });
    });
    return Buffer.concat(chunks);
  }

  /** Node does not read the body of an upgrade request: it is the first Content-Length bytes, and the stream follows it. */
  async #upgradeBody(socket: Socket): Promise<Buffer> {
    const length = Number(this.request.headers['content-length'] ?? 0);
    if (!Number.isInteger(length) || length < 0) {
      throw new BerthError('invalid', 'request.malformed', 'Content-Length is not a number');
    }
    if (length > MAX_JSON_BYTES) throw tooLarge();
    while (this.#head.length < length) {
      const chunk = await nextChunk(socket);
      if (chunk === undefined)
        throw new BerthError('cancelled', 'request.gone', 'the client left in the middle of the request');
      this.#head = Buffer.concat([this.#head, chunk]);
    }
    const body = this.#head.subarray(0, length);
    this.#head = this.#head.subarray(length);
    return body;
  }
}

function nextChunk(socket: Socket): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const done = (chunk: Buffer | undefined): void => {
      socket.off('readable', onReadable);
      socket.off('end', onEnd);
      socket.off('close', onEnd);
      resolve(chunk);
    };
    const onReadable = (): void => {
      const chunk = socket.read() as Buffer | null;
      if (chunk !== null) done(chunk);
    };
    const onEnd = (): void => done(undefined);
    socket.on('readable', onReadable);
    socket.on('end', onEnd);
    socket.on('close', onEnd);
    onReadable();
  });
}

function tooLarge(): BerthError {
  return new BerthError('invalid', 'request.too_large', `the request body is larger than ${MAX_JSON_BYTES} bytes`);
}
