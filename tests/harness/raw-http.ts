/** HTTP by hand over a unix socket: for what well-behaved clients never send, and for streams both ways. */
import { createConnection, type Socket } from 'node:net';
import { eventually } from './docker-cli.ts';

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
}

export class RawConnection {
  readonly #socket: Socket;
  #chunks: Buffer[] = [];
  #hasEnded = false;

  constructor(path: string) {
    this.#socket = createConnection({ path, allowHalfOpen: true });
    this.#socket.on('data', (chunk) => {
      this.#chunks.push(chunk);
    });
    this.#socket.on('error', () => {});
    this.#socket.on('end', () => {
      this.#hasEnded = true;
    });
    this.#socket.on('close', () => {
      this.#hasEnded = true;
    });
  }

  get #received(): Buffer {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0] ?? Buffer.alloc(0);
  }

  get text(): string {
    return this.#received.toString('latin1');
  }

  /** What came after the headers. */
  get body(): Buffer {
    const end = this.#received.indexOf('\r\n\r\n');
    return end < 0 ? Buffer.alloc(0) : this.#received.subarray(end + 4);
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** One packet: resolves when the kernel has it. */
  write(data: string | Buffer): Promise<void> {
    return new Promise((resolve) => this.#socket.write(data, () => resolve()));
  }

  /** Headers with `Content-Length` when there is a body. */
  send(method: string, path: string, options: { body?: string; headers?: Record<string, string> } = {}): Promise<void> {
    return this.write(`${requestHead(method, path, options)}${options.body ?? ''}`);
  }

  /** No more from this side; the other side may go on. */
  halfClose(): void {
    this.#socket.end();
  }

  /** Stops reading: what comes stays in the kernel, then with the sender. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  async answered(): Promise<Answer> {
    await eventually(() => this.text.includes('\r\n\r\n'), 'the answer’s headers come');
    const [first = '', ...lines] = this.text.slice(0, this.text.indexOf('\r\n\r\n')).split('\r\n');
    const headers = lines.map((line) => [
      line.slice(0, line.indexOf(':')).toLowerCase(),
      line.slice(line.indexOf(':') + 2),
    ]);
    return { status: Number(first.split(' ')[1]), headers: Object.fromEntries(headers) as Record<string, string> };
  }

  async untilReceived(text: string): Promise<void> {
    await eventually(
      () => this.text.includes(text),
      `${JSON.stringify(text)} comes (so far: ${JSON.stringify(this.text.slice(-500))})`,
    );
  }

  async ended(): Promise<void> {
    await eventually(() => this.#hasEnded, 'the other side ends the connection');
  }
}

export function requestHead(
  method: string,
  path: string,
  options: { readonly body?: string; readonly headers?: Readonly<Record<string, string>> } = {},
): string {
  const headers: Record<string, string> = { Host: 'docker', ...options.headers };
  if (options.body !== undefined) {
    headers['Content-Type'] ??= 'application/json';
    headers['Content-Length'] ??= String(Buffer.byteLength(options.body));
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`;
}

export const UPGRADE = { Connection: 'Upgrade', Upgrade: 'tcp' };

/** The bytes of each stream in Docker's frames. */
export function unframed(data: Buffer): { readonly stdout: string; readonly stderr: string } {
  const streams = ['', '', ''];
  for (let at = 0; at + 8 <= data.length; ) {
    const length = data.readUInt32BE(at + 4);
    const stream = data[at] ?? 0;
    streams[stream] += data.subarray(at + 8, at + 8 + length).toString();
    at += 8 + length;
  }
  return { stdout: streams[1] ?? '', stderr: streams[2] ?? '' };
}
