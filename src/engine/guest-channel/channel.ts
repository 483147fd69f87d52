/**
 * One connection to one guest program.
 *
 *     connect → hello → (configure) → start / resume … → closed
 *
 * A channel lives as long as its stream; after a break the owner connects again and makes a new one, says
 * `hello({ rejoin: true })` and resumes each process from the offsets it has persisted.
 *
 * Invariants: every request settles (reply, deadline, closed). `onOutput` sees every byte of a stream exactly once and
 * in order; a byte is acknowledged only by the owner, with `ack`, after it is safe. After `onClosed` no handler is
 * called any more.
 */
import { randomBytes } from 'node:crypto';
import { BerthError, messageOf } from '#base';
import { FrameReader, NONCE_BYTES, protocolError, resyncPadding } from './frame.ts';
import {
  type ConfigureOutcome,
  decodeMessage,
  encodeMessage,
  type GuestConfiguration,
  type GuestHello,
  type GuestMemory,
  type GuestMessage,
  type GuestProcessSpec,
  type GuestTopEntry,
  type HostMessage,
  type OutputStream,
  type ProcessExit,
  type StartOutcome,
} from './messages.ts';
import { PendingRequests } from './requests.ts';
import { StdinQueue } from './stdin-queue.ts';

/** What a channel needs of a connected socket; a node `Socket` fits as it is. */
export interface ByteStream {
  /** False: the bytes are queued, and `drain` says when to go on. */
  write(bytes: Uint8Array): boolean;
  destroy(): unknown;
  on(event: 'data', listener: (chunk: Buffer) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'drain' | 'close', listener: () => void): unknown;
}

export interface GuestOutput {
  readonly id: number;
  readonly stream: OutputStream;
  /** Number of the first byte of `data` in its stream. */
  readonly offset: number;
  readonly data: Buffer;
}

export interface GuestChannelHandlers {
  onOutput(output: GuestOutput): void;
  /** After all output of the process. May come again after a rejoin; answer with `exitAck`. */
  onExited(id: number, exit: ProcessExit): void;
  onLog(text: string): void;
  /** The guest's file systems are flushed: QEMU may be ended. */
  onSynced(): void;
  /** Once. `reason` is absent when the stream simply ended or `close` was called. */
  onClosed(reason: BerthError | undefined): void;
}

/** Milliseconds a guest may take to answer. Under TCG on a busy host a guest is up to 50 times slower than bare metal. */
const REQUEST_DEADLINE_MS = 30_000;
/** 127 layers are 127 mounts. */
const CONFIGURE_DEADLINE_MS = 120_000;
/** Input bytes in one STDIN frame: the largest payload towards the guest. */
const STDIN_FRAME_BYTES = 16_384;

/** Per stream, sent and not yet acknowledged. @source PROTOCOL.md, "Output" */
const OUTPUT_RING_BYTES = 128 * 1024;

interface ProcessFlow {
  /** Number of the next byte expected of each stream. */
  readonly next: Record<OutputStream, number>;
  /** Bytes of each stream that were acknowledged. */
  readonly acked: Record<OutputStream, number>;
  readonly stdin: StdinQueue;
}

export class GuestChannel {
  readonly #stream: ByteStream;
  readonly #handlers: GuestChannelHandlers;
  readonly #nonce = randomBytes(NONCE_BYTES);
  readonly #reader = new FrameReader(this.#nonce);
  readonly #requests = new PendingRequests();
  readonly #flows = new Map<number, ProcessFlow>();
  readonly #received = new Map<number, number>();
  #nextRequest = 1;
  #congested = false;
  #closed = false;

  constructor(stream: ByteStream, handlers: GuestChannelHandlers) {
    this.#stream = stream;
    this.#handlers = handlers;
    stream.on('data', (chunk) => this.#receive(chunk));
    stream.on('drain', () => {
      this.#congested = false;
      for (const id of this.#flows.keys()) this.#pumpStdin(id);
    });
    stream.on('error', (error) =>
      this.#close(
        new BerthError('unavailable', 'guest.connection', 'the connection to the guest failed', { cause: error }),
      ),
    );
    stream.on('close', () => this.#close(undefined));
  }

  /**
   * The first request on every connection.
   *
   * @param options.rejoin - this guest has been spoken to before, by whomever: sends the padding that completes a frame
   *   that was cut. Harmless for a fresh guest.
   */
  async hello(options: { rejoin: boolean; deadlineMs?: number }): Promise<GuestHello> {
    const deadlineMs = options.deadlineMs ?? REQUEST_DEADLINE_MS;
    const hello = await this.#requests.ask<GuestHello>('HELLO', deadlineMs, () => {
      if (options.rejoin) this.#stream.write(resyncPadding());
      this.#send({ type: 'hello', nonce: this.#nonce });
    });
    return hello;
  }

  /** @throws guest.configure_failed (unavailable) with the guest's own words. */
  async configure(configuration: GuestConfiguration): Promise<ConfigureOutcome> {
    const outcome = await this.#requests.ask<ConfigureOutcome>('CONFIGURE', CONFIGURE_DEADLINE_MS, () =>
      this.#send({ type: 'configure', configuration }),
    );
    if (outcome.error !== undefined) {
      throw new BerthError('unavailable', 'guest.configure_failed', `the guest cannot prepare: ${outcome.error}`, {
        facts: { step: outcome.step ?? 'unknown' },
      });
    }
    return outcome;
  }

  /** @param id - 0 is the main process. A refusal (no such program, no such user) is a value, not an error. */
  async start(id: number, spec: GuestProcessSpec): Promise<StartOutcome> {
    const flow = this.#flows.get(id) ?? {
      next: { stdout: 0, stderr: 0 },
      acked: { stdout: 0, stderr: 0 },
      stdin: new StdinQueue(0),
    };
    this.#flows.set(id, flow);
    // It may be sent right behind a CONFIGURE, whose time is its own as well.
    const outcome = await this.#requests.ask<StartOutcome>(`START ${id}`, CONFIGURE_DEADLINE_MS, () =>
      this.#send({ type: 'start', id, spec }),
    );
    return outcome;
  }

  /** Asks for the output from these offsets on. For processes that HELLO listed; required before anything comes. */
  resume(id: number, offsets: { stdout: number; stderr: number }): void {
    this.#flows.set(id, {
      next: { stdout: offsets.stdout, stderr: offsets.stderr },
      acked: { stdout: offsets.stdout, stderr: offsets.stderr },
      stdin: this.#flows.get(id)?.stdin ?? new StdinQueue(this.#received.get(id) ?? 0),
    });
    this.#send({ type: 'resume', id, stdoutOffset: offsets.stdout, stderrOffset: offsets.stderr });
  }

  /** All bytes of the stream below `offset` are safe: the guest may forget them and read on. */
  ack(id: number, stream: OutputStream, offset: number): void {
    const flow = this.#flows.get(id);
    if (flow !== undefined) flow.acked[stream] = offset;
    this.#send({ type: 'ack', id, stream, offset });
  }

  /**
   * Resolves when all of `data` is on its way inside the guest's window; wait for it before sending more.
   *
   * @throws guest.stdin_closed (conflict) when the process is unknown or has ended; guest.closed (unavailable).
   */
  async sendStdin(id: number, data: Uint8Array): Promise<void> {
    const flow = this.#flows.get(id);
    if (flow === undefined) throw stdinClosed(id);
    const sent = flow.stdin.push(data);
    this.#pumpStdin(id);
    await sent;
  }

  /** Ends the input after everything given to `sendStdin` before. */
  endStdin(id: number): void {
    this.#flows.get(id)?.stdin.end();
    this.#pumpStdin(id);
  }

  signal(id: number, signal: number): void {
    this.#send({ type: 'signal', id, signal });
  }

  resize(id: number, size: { rows: number; columns: number }): void {
    this.#send({ type: 'resize', id, ...size });
  }

  /** The exit is safe: the guest forgets the process. For process 0 the guest flushes its disk and powers off. */
  exitAck(id: number): void {
    this.#flows.delete(id);
    this.#send({ type: 'exit-ack', id });
  }

  async top(): Promise<readonly GuestTopEntry[]> {
    return await this.#ask('TOP', (request) => ({ type: 'top', request }));
  }

  async memory(): Promise<GuestMemory> {
    return await this.#ask('MEMORY', (request) => ({ type: 'memory', request }));
  }

  /** The guest's CLOCK_BOOTTIME in nanoseconds when it answered; 0 from one that does not say. */
  async ping(deadlineMs: number = REQUEST_DEADLINE_MS): Promise<number> {
    return await this.#ask('PING', (request) => ({ type: 'ping', request }), deadlineMs);
  }

  /** @throws guest.rehearsal (unavailable) with the guest's own words. */
  async rehearse(configuration: GuestConfiguration, spec: GuestProcessSpec): Promise<void> {
    const error = await this.#ask<string | undefined>('REHEARSE', (request) => ({
      type: 'rehearse',
      request,
      configuration,
      spec,
    }));
    if (error !== undefined) throw new BerthError('unavailable', 'guest.rehearsal', `the rehearsal failed: ${error}`);
  }

  /**
   * Holds all processes of the guest's user still.
   *
   * @param options.flush - writes what the guest holds back to its disk, too.
   * @throws guest.freeze (unavailable) with the guest's own words: everything runs on.
   */
  async freeze(options: { flush: boolean }): Promise<void> {
    const error = await this.#ask<string | undefined>('FREEZE', (request) => ({ type: 'freeze', request, ...options }));
    if (error !== undefined) throw new BerthError('unavailable', 'guest.freeze', `the guest does not freeze: ${error}`);
  }

  /** Lets them go on. One that is not frozen says so as well. */
  async thaw(): Promise<void> {
    await this.#ask('THAW', (request) => ({ type: 'thaw', request }));
  }

  /** Resolves when what the guest has written so far is on its disks. */
  async flush(): Promise<void> {
    await this.#ask('FLUSH', (request) => ({ type: 'flush', request }));
  }

  /** Makes a frozen copy of a guest another one. @throws guest.identify (unavailable) with the guest's own words. */
  async identify(configuration: GuestConfiguration): Promise<void> {
    const error = await this.#ask<string | undefined>('IDENTIFY', (request) => ({
      type: 'identify',
      request,
      configuration,
    }));
    if (error !== undefined) {
      throw new BerthError('unavailable', 'guest.identify', `the guest cannot take its identity: ${error}`);
    }
  }

  /** Stops listening without closing the stream, for a channel of another owner; requests under way fail. */
  detach(): void {
    this.#closed = true;
    this.#requests.failAll(new BerthError('unavailable', 'guest.detached', 'the channel was given to another owner'));
  }

  /** @param boottimeNs - the guest's CLOCK_BOOTTIME when it was `epochNs`; absent: when the message arrives. */
  setClock(epochNs: bigint, boottimeNs?: bigint): void {
    this.#send({ type: 'set-clock', epochNs, boottimeNs });
  }

  /** Kills all processes, flushes, powers off; `onSynced` tells when it is flushed. */
  powerOff(): void {
    this.#send({ type: 'poweroff' });
  }

  close(): void {
    this.#close(undefined);
  }

  #ask<T>(
    name: string,
    message: (request: number) => HostMessage,
    deadlineMs: number = REQUEST_DEADLINE_MS,
  ): Promise<T> {
    const request = this.#nextRequest;
    this.#nextRequest = (this.#nextRequest % 0xffff_ffff) + 1;
    return this.#requests.ask<T>(`${name} ${request}`, deadlineMs, () => this.#send(message(request)));
  }

  /** On a closed channel nothing is sent: whoever waits for an answer has been told, and the owner by `onClosed`. */
  #send(message: HostMessage): void {
    if (this.#closed) return;
    if (!this.#stream.write(encodeMessage(message))) this.#congested = true;
  }

  #pumpStdin(id: number): void {
    const flow = this.#flows.get(id);
    if (flow === undefined || this.#closed) return;
    while (!this.#congested) {
      const data = flow.stdin.take(STDIN_FRAME_BYTES);
      if (data === undefined) break;
      this.#send({ type: 'stdin', id, data });
    }
    if (flow.stdin.takeEnd()) this.#send({ type: 'stdin-eof', id });
  }

  #receive(chunk: Buffer): void {
    if (this.#closed) return;
    let failure: BerthError | undefined;
    try {
      for (const frame of this.#reader.feed(chunk)) {
        this.#dispatch(decodeMessage(frame));
        if (this.#closed) return;
      }
    } catch (error) {
      failure =
        error instanceof BerthError
          ? error
          : new BerthError('bug', 'guest.handler', `a handler of the guest channel failed: ${messageOf(error)}`, {
              cause: error,
            });
    }
    if (failure !== undefined) this.#close(failure);
  }

  #dispatch(message: GuestMessage): void {
    switch (message.type) {
      case 'hello-ack':
        for (const { id, stdinBytes } of message.hello.processes) this.#received.set(id, stdinBytes);
        this.#requests.answer('HELLO', message.hello);
        break;
      case 'configured':
        this.#requests.answer('CONFIGURE', message.outcome);
        break;
      case 'started':
        if (!message.outcome.ok) this.#forget(message.id);
        this.#requests.answer(`START ${message.id}`, message.outcome);
        break;
      case 'output':
        this.#output(message);
        break;
      case 'exited':
        this.#flows.get(message.id)?.stdin.fail(stdinClosed(message.id));
        this.#handlers.onExited(message.id, message.exit);
        break;
      case 'stdin-window':
        this.#flows.get(message.id)?.stdin.open(message.offset);
        this.#pumpStdin(message.id);
        break;
      case 'top-reply':
        this.#requests.answer(`TOP ${message.request}`, message.entries);
        break;
      case 'memory-reply':
        this.#requests.answer(`MEMORY ${message.request}`, message.memory);
        break;
      case 'pong':
        this.#requests.answer(`PING ${message.request}`, message.boottimeNs);
        break;
      case 'rehearsed':
        this.#requests.answer(`REHEARSE ${message.request}`, message.error);
        break;
      case 'frozen':
        this.#requests.answer(`FREEZE ${message.request}`, message.error);
        break;
      case 'thawed':
        this.#requests.answer(`THAW ${message.request}`, undefined);
        break;
      case 'flushed':
        this.#requests.answer(`FLUSH ${message.request}`, undefined);
        break;
      case 'identified':
        this.#requests.answer(`IDENTIFY ${message.request}`, message.error);
        break;
      case 'log':
        this.#handlers.onLog(message.text);
        break;
      case 'synced':
        this.#handlers.onSynced();
        break;
      case 'unknown':
        break;
    }
  }

  #output({ id, stream, offset, data }: GuestOutput): void {
    const flow = this.#flows.get(id);
    if (flow === undefined) throw protocolError(`output of process ${id}, which was neither started nor resumed`);
    const expected = flow.next[stream];
    if (offset > expected) {
      throw protocolError(`${stream} of process ${id} goes on at byte ${offset} where ${expected} was due`);
    }
    const fresh = data.subarray(expected - offset);
    if (fresh.length === 0) return;
    // A guest of ours stops at its ring; one that does not would fill our memory while the log's disk is full.
    if (expected + fresh.length - flow.acked[stream] > OUTPUT_RING_BYTES) {
      throw protocolError(
        `${stream} of process ${id} goes beyond the ${OUTPUT_RING_BYTES} bytes that may be unacknowledged`,
      );
    }
    flow.next[stream] = expected + fresh.length;
    this.#handlers.onOutput({ id, stream, offset: expected, data: fresh });
  }

  #forget(id: number): void {
    this.#flows.get(id)?.stdin.fail(stdinClosed(id));
    this.#flows.delete(id);
  }

  #close(reason: BerthError | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    const error =
      reason ?? new BerthError('unavailable', 'guest.closed', 'the connection to the guest ended before its answer');
    this.#requests.failAll(error);
    for (const { stdin } of this.#flows.values()) stdin.fail(error);
    this.#stream.destroy();
    this.#handlers.onClosed(reason);
  }
}

function stdinClosed(id: number): BerthError {
  return new BerthError('conflict', 'guest.stdin_closed', `process ${id} takes no input any more`);
}
