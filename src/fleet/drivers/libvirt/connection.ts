/**
 * Calls over one connection to libvirt. Calls overlap; every one is settled: by its reply, by libvirt's error, by its
 * deadline, or by the end of the connection.
 */
import type { Duplex } from 'node:stream';
import { BerthError, messageOf } from '#base';
import { startTimer, type Timer } from '#platform';
import { encodeFrame, FRAME_STATUS, FRAME_TYPE, type Frame, FrameReader } from './frames.ts';
import {
  ERROR_CODE,
  KEEPALIVE,
  KEEPALIVE_PROGRAM,
  REMOTE_PROGRAM,
  REMOTE_VERSION,
  type RemoteError,
  readRemoteError,
} from './procedures.ts';
import { XdrReader, type XdrWriter } from './xdr.ts';

/** A host under load answers within seconds; one that is stuck never does. */
const CALL_DEADLINE_MS = 30_000;

interface Pending {
  readonly procedure: number;
  readonly resolve: (body: XdrReader) => void;
  readonly reject: (error: BerthError) => void;
  readonly timer: Timer;
}

export class LibvirtConnection {
  readonly ended: Promise<BerthError | undefined>;
  readonly #stream: Duplex;
  readonly #reader = new FrameReader();
  readonly #pending = new Map<number, Pending>();
  readonly #listeners = new Map<number, (body: XdrReader) => void>();
  readonly #where: string;
  readonly #oneAtATime: boolean;
  #turn: Promise<unknown> = Promise.resolve();
  #serial = 0;
  #isEndExpected = false;
  #end: { readonly error: BerthError | undefined } | undefined;
  #settleEnded: (error: BerthError | undefined) => void = () => {};

  /**
   * @param options - `where`: for messages, `qemu:///system`. `oneAtATime`: the next call is sent when the one before is answered.
   */
  constructor(stream: Duplex, options: { readonly where: string; readonly oneAtATime: boolean }) {
    const { where } = options;
    this.#oneAtATime = options.oneAtATime;
    this.#stream = stream;
    this.#where = where;
    this.ended = new Promise((resolve) => {
      this.#settleEnded = resolve;
    });
    stream.on('data', (chunk: Buffer) => this.#take(chunk));
    // A child that ended says itself what that means.
    stream.on('error', (error) => this.#finish(error instanceof BerthError ? error : this.#broken(messageOf(error))));
    stream.on('close', () => this.#finish(this.#broken('it was closed by the other side')));
    stream.on('end', () => this.#finish(this.#broken('it was closed by the other side')));
    // It may have been paused by whoever read a greeting before.
    stream.resume();
  }

  /** @throws what libvirt refused, translated; libvirt.late (timeout); libvirt.broken (unavailable). */
  call(procedure: number, args?: XdrWriter, deadlineMs = CALL_DEADLINE_MS): Promise<XdrReader> {
    if (!this.#oneAtATime) return this.#callNow(procedure, args, deadlineMs);
    const answer = this.#turn.then(() => this.#callNow(procedure, args, deadlineMs));
    this.#turn = answer.catch(() => {});
    return answer;
  }

  #callNow(procedure: number, args: XdrWriter | undefined, deadlineMs: number): Promise<XdrReader> {
    if (this.#end !== undefined) return Promise.reject(this.#end.error ?? this.#broken('it was closed'));
    this.#serial = (this.#serial + 1) >>> 0;
    const serial = this.#serial;
    return new Promise((resolve, reject) => {
      const timer = startTimer(deadlineMs, () => {
        this.#pending.delete(serial);
        const text = `libvirt at ${this.#where} did not answer call ${procedure} within ${deadlineMs} ms`;
        reject(
          new BerthError('timeout', 'libvirt.late', text, { hint: 'is the host overloaded or its storage stuck?' }),
        );
      });
      this.#pending.set(serial, { procedure, resolve, reject, timer });
      const body = args?.bytes() ?? Buffer.alloc(0);
      const { call } = FRAME_TYPE;
      this.#send({ program: REMOTE_PROGRAM, version: REMOTE_VERSION, procedure, type: call, serial, status: 0, body });
    });
  }

  /** Hears messages that no call asked for. One listener for each procedure. */
  listen(procedure: number, listener: (body: XdrReader) => void): void {
    this.#listeners.set(procedure, listener);
  }

  close(): void {
    this.#finish(undefined);
  }

  /** The other side is about to be told to hang up: when it does, that is no failure. */
  expectEnd(): void {
    this.#isEndExpected = true;
  }

  #send(frame: Frame): void {
    this.#stream.write(encodeFrame(frame));
  }

  #take(chunk: Buffer): void {
    try {
      for (const frame of this.#reader.feed(chunk)) this.#dispatch(frame);
    } catch (error) {
      this.#finish(error instanceof BerthError ? error : this.#broken(messageOf(error)));
    }
  }

  #dispatch(frame: Frame): void {
    if (frame.program === KEEPALIVE_PROGRAM) {
      if (frame.procedure === KEEPALIVE.ping) this.#send({ ...frame, procedure: KEEPALIVE.pong });
      return;
    }
    if (frame.type === FRAME_TYPE.message) {
      this.#listeners.get(frame.procedure)?.(new XdrReader(frame.body));
      return;
    }
    // A reply nobody waits for any more came after its deadline.
    const pending = this.#pending.get(frame.serial);
    if (frame.type !== FRAME_TYPE.reply || pending === undefined) return;
    this.#pending.delete(frame.serial);
    pending.timer.cancel();
    if (frame.procedure !== pending.procedure) {
      pending.reject(this.#broken(`call ${pending.procedure} was answered as ${frame.procedure}`));
      return;
    }
    const reader = new XdrReader(frame.body);
    if (frame.status === FRAME_STATUS.ok) pending.resolve(reader);
    else pending.reject(translate(readRemoteError(reader), this.#where));
  }

  #finish(error: BerthError | undefined): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    this.#stream.destroy();
    for (const { reject, timer } of this.#pending.values()) {
      timer.cancel();
      reject(error ?? this.#broken('it was closed'));
    }
    this.#pending.clear();
    this.#settleEnded(this.#isEndExpected ? undefined : error);
  }

  #broken(why: string): BerthError {
    return new BerthError('unavailable', 'libvirt.broken', `the connection to libvirt at ${this.#where} broke: ${why}`);
  }
}

function translate({ code, message }: RemoteError, where: string): BerthError {
  const told = message.slice(0, 500);
  const facts = { libvirtCode: code };
  if (code === ERROR_CODE.noDomain) return new BerthError('not_found', 'libvirt.no_domain', told, { facts });
  if (code === ERROR_CODE.noSupport) return new BerthError('unsupported', 'libvirt.unsupported', told, { facts });
  if (code === ERROR_CODE.operationInvalid) return new BerthError('conflict', 'libvirt.bad_state', told, { facts });
  if (code === ERROR_CODE.authFailed || code === ERROR_CODE.authCancelled || code === ERROR_CODE.authUnavailable) {
    return new BerthError('unauthenticated', 'libvirt.login', `libvirt at ${where} refused the login: ${told}`, {
      facts,
      hint: 'is the user of the daemon in the group libvirt?',
    });
  }
  if (code === ERROR_CODE.accessDenied || code === ERROR_CODE.operationDenied) {
    return new BerthError('denied', 'libvirt.denied', `libvirt at ${where} does not allow it: ${told}`, { facts });
  }
  return new BerthError('unavailable', 'libvirt.failed', `libvirt at ${where}: ${told}`, { facts });
}
