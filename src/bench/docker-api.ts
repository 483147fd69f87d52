/**
 * The Docker Engine API as a benchmark uses it: the same requests, word for word, to every engine. Paths carry no
 * version, so that each engine answers with its newest.
 */
import { Readable } from 'node:stream';
import { BerthError, messageOf } from '#base';
import { monotonicMs, unixRequest, unixUpgrade } from '#platform';
import { unframe } from './stream-frames.ts';

/** A cold VM boots in 2 s, a hundred at once on two cores in some minutes. */
const DEADLINE_MS = 10 * 60_000;
/** An engine that is being started does not answer at once; one that answers does so within this. */
const PING_DEADLINE_MS = 5_000;

/** Many enough to use both cores, few enough to leave the engine its breath. */
const REMOVALS_AT_ONCE = 8;

export interface CreateRequest {
  readonly name: string;
  readonly image: string;
  readonly args: readonly string[];
  readonly memoryBytes?: number;
  /** Ports of the guest (TCP) that the host chooses a port for. */
  readonly ports?: readonly number[];
}

export interface Answer {
  readonly status: number;
  readonly text: string;
}

export interface DockerApiOptions {
  readonly socketPath: string;
  /** Named in errors. */
  readonly engine: string;
  readonly signal: AbortSignal;
  /** What this engine needs in every HostConfig on this host. */
  readonly hostConfig?: Readonly<Record<string, unknown>>;
}

export class DockerApi {
  readonly socketPath: string;
  readonly #engine: string;
  readonly #signal: AbortSignal;
  readonly #options: DockerApiOptions;

  constructor(options: DockerApiOptions) {
    this.socketPath = options.socketPath;
    this.#engine = options.engine;
    this.#signal = options.signal;
    this.#options = options;
  }

  /** The same engine for what has to be done after the run was cancelled. */
  withoutSignal(): DockerApi {
    return new DockerApi({ ...this.#options, signal: new AbortController().signal });
  }

  async isServing(): Promise<boolean> {
    try {
      return (await this.send('GET', '/_ping', { deadlineMs: PING_DEADLINE_MS })).status === 200;
    } catch {
      return false;
    }
  }

  /** @throws bench.engine (unavailable) when the answer does not come within `deadlineMs`. */
  async send(
    method: string,
    path: string,
    options: { readonly json?: unknown; readonly body?: Readable; readonly deadlineMs?: number } = {},
  ): Promise<Answer> {
    const { json, deadlineMs = DEADLINE_MS } = options;
    const body = json === undefined ? options.body : JSON.stringify(json);
    const type = json === undefined ? 'application/x-tar' : 'application/json';
    try {
      const response = await unixRequest({
        socketPath: this.socketPath,
        method,
        path,
        signal: AbortSignal.any([this.#signal, AbortSignal.timeout(deadlineMs)]),
        ...(body === undefined ? {} : { body, headers: { 'Content-Type': type } }),
      });
      return { status: response.status, text: (await bytesOf(response.body)).toString() };
    } catch (error) {
      this.#signal.throwIfAborted();
      throw this.#failure(`${method} ${path}: ${messageOf(error)}`, error);
    }
  }

  /** An image and its layers as `docker save` writes them. */
  async saveImage(image: string): Promise<Buffer> {
    const response = await unixRequest({
      socketPath: this.socketPath,
      method: 'GET',
      path: `/images/${image}/get`,
      signal: this.#signal,
    });
    const bytes = await bytesOf(response.body);
    if (response.status >= 400) throw this.#failure(`cannot save ${image}: ${bytes.toString()}`);
    return bytes;
  }

  async loadImage(archive: Buffer): Promise<void> {
    const { status, text } = await this.send('POST', '/images/load?quiet=1', { body: Readable.from([archive]) });
    if (status >= 400 || text.includes('"error"')) throw this.#failure(`cannot load the image: ${text.trim()}`);
  }

  /** The answer's JSON. @throws bench.engine (unavailable) with the engine's words for a status of 400 and more. */
  async call<T = unknown>(method: string, path: string, json?: unknown): Promise<T> {
    const { status, text } = await this.send(method, path, json === undefined ? {} : { json });
    if (status >= 400) throw this.#failure(`${method} ${path} was answered with ${status}: ${text.trim()}`);
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }

  /** @returns the id. */
  async create(request: CreateRequest): Promise<string> {
    const ports = (request.ports ?? []).map((port) => `${port}/tcp`);
    const { Id } = await this.call<{ Id: string }>('POST', `/containers/create?name=${request.name}`, {
      Image: request.image,
      Cmd: request.args,
      ExposedPorts: Object.fromEntries(ports.map((port) => [port, {}])),
      HostConfig: {
        ...this.#options.hostConfig,
        ...(request.memoryBytes === undefined ? {} : { Memory: request.memoryBytes }),
        PortBindings: Object.fromEntries(ports.map((port) => [port, [{ HostIp: '127.0.0.1', HostPort: '' }]])),
      },
    });
    return Id;
  }

  async start(id: string): Promise<void> {
    await this.call('POST', `/containers/${id}/start`);
  }

  async remove(id: string): Promise<void> {
    const { status, text } = await this.send('DELETE', `/containers/${id}?force=1&v=1`);
    if (status >= 400 && status !== 404) throw this.#failure(`cannot remove ${id}: ${text.trim()}`);
  }

  /** Removes all whose name begins with `prefix`. */
  async removeAll(prefix: string): Promise<void> {
    const all = await this.call<{ Id: string; Names: string[] }[]>('GET', '/containers/json?all=1');
    const ours = all.filter(({ Names }) => Names.some((name) => name.startsWith(`/${prefix}`)));
    for (let at = 0; at < ours.length; at += REMOVALS_AT_ONCE)
      await Promise.all(ours.slice(at, at + REMOVALS_AT_ONCE).map(({ Id }) => this.remove(Id)));
  }

  /** The host's process of a running container or VM: the VM's is its QEMU. */
  async pidOf(id: string): Promise<number> {
    return (await this.call<{ State: { Pid: number } }>('GET', `/containers/${id}/json`)).State.Pid;
  }

  /** Where a port that the host chose is reached. */
  async publishedPort(id: string, port: number): Promise<number> {
    const { NetworkSettings } = await this.call<{
      NetworkSettings: { Ports: Record<string, { HostPort: string }[] | null> };
    }>('GET', `/containers/${id}/json`);
    const found = NetworkSettings.Ports[`${port}/tcp`]?.[0]?.HostPort;
    if (found === undefined) throw this.#failure(`port ${port} of ${id} is not published`);
    return Number(found);
  }

  /** Runs a program to its end. @returns what it wrote to standard output and standard error. */
  async exec(id: string, args: readonly string[]): Promise<string> {
    const { Id } = await this.call<{ Id: string }>('POST', `/containers/${id}/exec`, {
      Cmd: args,
      AttachStdout: true,
      AttachStderr: true,
    });
    const path = `/exec/${Id}/start`;
    const signal = AbortSignal.any([this.#signal, AbortSignal.timeout(DEADLINE_MS)]);
    const headers = { 'Content-Type': 'application/json' };
    const body = JSON.stringify({ Detach: false, Tty: false });
    const response = await unixRequest({ socketPath: this.socketPath, method: 'POST', path, body, headers, signal });
    const bytes = await bytesOf(response.body);
    if (response.status >= 400) throw this.#failure(`exec was answered with ${response.status}: ${bytes.toString()}`);
    return unframe(bytes);
  }

  /**
   * Listens to a container before it starts.
   *
   * @returns `first`: the first line of its output, and when its first byte came (monotonic milliseconds). It fails when the
   *   stream ends before. `close` may be called at any time.
   */
  async attach(id: string): Promise<{
    readonly first: Promise<{ readonly line: string; readonly atMs: number }>;
    readonly close: () => void;
  }> {
    const path = `/containers/${id}/attach?stream=1&stdout=1`;
    const taken = await unixUpgrade({ socketPath: this.socketPath, method: 'POST', path, signal: this.#signal });
    if (!('socket' in taken)) {
      throw this.#failure(`attach was answered with ${taken.status}: ${(await bytesOf(taken.body)).toString()}`);
    }
    const { socket, head } = taken;
    const first = new Promise<{ line: string; atMs: number }>((resolve, reject) => {
      let [bytes, atMs] = [Buffer.alloc(0), 0];
      const take = (chunk: Buffer): void => {
        bytes = Buffer.concat([bytes, chunk]);
        const text = unframe(bytes);
        if (atMs === 0 && text.length > 0) atMs = monotonicMs();
        const end = text.indexOf('\n');
        if (end >= 0) resolve({ line: text.slice(0, end), atMs });
      };
      const onEnd = (): void =>
        reject(this.#failure(`the output of ${id} ended with ${JSON.stringify(unframe(bytes))}`));
      const onAbort = (): void => {
        socket.destroy();
        reject(this.#signal.reason);
      };
      this.#signal.addEventListener('abort', onAbort, { once: true });
      socket.on('data', take).on('error', reject).on('close', onEnd).on('end', onEnd);
      socket.on('close', () => this.#signal.removeEventListener('abort', onAbort));
      take(head);
      socket.resume();
    });
    // Nobody may be listening yet when the start itself fails first.
    first.catch(() => {});
    return { first, close: () => socket.destroy() };
  }

  #failure(what: string, cause?: unknown): BerthError {
    return new BerthError('unavailable', 'bench.engine', `${this.#engine}: ${what}`, { cause });
  }
}

async function bytesOf(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
