/**
 * QMP, QEMU's control protocol: one JSON object a line, both ways, over any byte stream.
 *
 *     QEMU  {"QMP": …}                    greeting
 *     us    {"execute":"qmp_capabilities","id":1}
 *     QEMU  {"return":…,"id":1}           or {"error":{"class","desc"},"id":1}
 *     QEMU  {"event":…,"data":…}          at any time
 *
 * Invariant: every request settles, by its reply, by its deadline, or because the stream closed. Replies are matched
 * by id alone, so a late reply to a request that timed out is dropped.
 *
 * @source QEMU docs/interop/qmp-spec
 */
import type { Duplex } from 'node:stream';
import { BerthError } from '#base';
import { startTimer, type Timer } from '#platform';

/** One line of QMP may be this long; query replies of berth's machines stay under 100 KiB. */
const MAX_LINE_BYTES = 4 * 1024 * 1024;

export type QmpMessage =
  | { readonly type: 'greeting' }
  | { readonly type: 'reply'; readonly id: number; readonly value: unknown }
  | { readonly type: 'error'; readonly id: number; readonly errorClass: string; readonly description: string }
  | { readonly type: 'event'; readonly name: string; readonly data: Readonly<Record<string, unknown>> };

/** A pure reader of QMP lines: feed it bytes as they come, it returns the messages they complete. */
export class QmpReader {
  #rest = '';

  /** @throws qmp.malformed (unavailable) when a line is too long or is not a QMP object. */
  feed(text: string): QmpMessage[] {
    const parts = (this.#rest + text).split('\n');
    this.#rest = parts.pop() ?? '';
    if (this.#rest.length > MAX_LINE_BYTES) throw malformed(`a line is longer than ${MAX_LINE_BYTES} bytes`);
    return parts.filter((line) => line.trim() !== '').map(parseLine);
  }
}

function malformed(why: string): BerthError {
  return new BerthError('unavailable', 'qmp.malformed', `QEMU's control socket sent what is not QMP: ${why}`);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parseLine(line: string): QmpMessage {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw malformed(JSON.stringify(line.slice(0, 100)));
  }
  if (!isObject(value)) throw malformed('not an object');
  if ('QMP' in value) return { type: 'greeting' };
  if (typeof value['event'] === 'string') {
    return { type: 'event', name: value['event'], data: isObject(value['data']) ? value['data'] : {} };
  }
  const id = typeof value['id'] === 'number' ? value['id'] : -1;
  if ('return' in value) return { type: 'reply', id, value: value['return'] };
  const { error } = value;
  if (isObject(error)) {
    return { type: 'error', id, errorClass: String(error['class']), description: String(error['desc']) };
  }
  throw malformed(JSON.stringify(line.slice(0, 100)));
}

interface Pending {
  readonly command: string;
  readonly timer: Timer;
  resolve(value: unknown): void;
  reject(error: BerthError): void;
}

export interface QmpEvents {
  onEvent(name: string, data: Readonly<Record<string, unknown>>): void;
  /** Once, when the stream has ended for whatever reason. */
  onClosed(): void;
}

export class QmpClient {
  readonly #stream: Duplex;
  readonly #events: QmpEvents;
  readonly #reader = new QmpReader();
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;
  #closed = false;

  constructor(stream: Duplex, events: QmpEvents) {
    this.#stream = stream;
    this.#events = events;
    const decoder = new TextDecoder();
    stream.on('data', (chunk: Buffer) => this.#receive(decoder.decode(chunk, { stream: true })));
    stream.on('error', () => {});
    stream.on('close', () => this.#close());
  }

  /** Leaves negotiation mode; must be the first request on a connection. */
  async negotiate(deadlineMs: number): Promise<void> {
    await this.execute('qmp_capabilities', {}, deadlineMs);
  }

  /**
   * @param deadlineMs - milliseconds until the request fails; QEMU may still carry it out.
   * @throws qmp.refused (unavailable) with QEMU's own words; qmp.deadline (timeout); qmp.closed (unavailable).
   */
  execute(command: string, parameters: Readonly<Record<string, unknown>> = {}, deadlineMs = 5_000): Promise<unknown> {
    if (this.#closed) return Promise.reject(closedError(command));
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      const timer = startTimer(deadlineMs, () => {
        this.#pending.delete(id);
        reject(new BerthError('timeout', 'qmp.deadline', `QEMU did not answer ${command} within ${deadlineMs} ms`));
      });
      this.#pending.set(id, { command, timer, resolve, reject });
      this.#stream.write(`${JSON.stringify({ execute: command, arguments: parameters, id })}\n`);
    });
  }

  close(): void {
    this.#stream.destroy();
  }

  #receive(text: string): void {
    let messages: QmpMessage[];
    try {
      messages = this.#reader.feed(text);
    } catch {
      this.#stream.destroy();
      return;
    }
    for (const message of messages) this.#dispatch(message);
  }

  #dispatch(message: QmpMessage): void {
    if (message.type === 'greeting') return;
    if (message.type === 'event') {
      this.#events.onEvent(message.name, message.data);
      return;
    }
    const pending = this.#pending.get(message.id);
    if (pending === undefined) return;
    this.#pending.delete(message.id);
    pending.timer.cancel();
    if (message.type === 'reply') {
      pending.resolve(message.value);
      return;
    }
    pending.reject(
      new BerthError('unavailable', 'qmp.refused', `QEMU refused ${pending.command}: ${message.description}`, {
        facts: { command: pending.command, class: message.errorClass },
      }),
    );
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const pending of this.#pending.values()) {
      pending.timer.cancel();
      pending.reject(closedError(pending.command));
    }
    this.#pending.clear();
    this.#events.onClosed();
  }
}

function closedError(command: string): BerthError {
  return new BerthError('unavailable', 'qmp.closed', `QEMU's control socket closed before it answered ${command}`);
}
