/** For tests: the guest's side of a channel, in memory. */
import type { ByteStream } from './channel.ts';
import { FieldWriter } from './fields.ts';

/** A message as the guest sends it; cut at `partBytes`. */
export function guestFrame(type: number, id: number, payload: Buffer, partBytes = 65_536): Buffer {
  const frames: Buffer[] = [];
  let at = 0;
  do {
    const part = payload.subarray(at, at + partBytes);
    at += part.length;
    const header = Buffer.alloc(16);
    header.set([0xb3, 0x7a, type, at < payload.length ? 1 : 0]);
    header.writeUInt32LE(id, 4);
    header.writeUInt32LE(part.length, 8);
    frames.push(header, part);
  } while (at < payload.length);
  return Buffer.concat(frames);
}

/** A small reproducible generator (mulberry32): numbers in 0..1. */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** `bytes` in random portions of 1 to `most`. */
export function* portions(bytes: Buffer, random: () => number, most: number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; ) {
    const end = at + 1 + Math.floor(random() * most);
    yield Buffer.from(bytes.subarray(at, end));
    at = end;
  }
}

export interface Sent {
  readonly type: number;
  readonly id: number;
  readonly payload: Buffer;
}

/** A stream whose other end is the test. It reads whole frames, so messages of several frames appear as several. */
export class GuestDouble implements ByteStream {
  readonly sent: Sent[] = [];
  isDestroyed = false;
  /** What `write` answers. */
  accepts = true;
  paddingBytes = 0;
  readonly #listeners = new Map<string, ((value: never) => void)[]>();

  write(bytes: Uint8Array): boolean {
    const all = Buffer.from(bytes);
    for (let at = 0; at < all.length; ) {
      if (all[at] === 0) {
        this.paddingBytes += 1;
        at += 1;
        continue;
      }
      const length = all.readUInt32LE(at + 8);
      this.sent.push({
        type: all.readUInt8(at + 2),
        id: all.readUInt32LE(at + 4),
        payload: all.subarray(at + 16, at + 16 + length),
      });
      at += 16 + length;
    }
    return this.accepts;
  }

  destroy(): void {
    if (this.isDestroyed) return;
    this.isDestroyed = true;
    this.emit('close');
  }

  on(event: string, listener: (value: never) => void): void {
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), listener]);
  }

  emit(event: string, value?: unknown): void {
    for (const listener of this.#listeners.get(event) ?? []) listener(value as never);
  }

  say(type: number, id: number, payload: Buffer = Buffer.alloc(0)): void {
    this.emit('data', guestFrame(type, id, payload));
  }

  /** Answers the HELLO that was sent. */
  greet(processes: readonly { id: number; stdinBytes: number }[] = []): void {
    const hello = this.sent.find(({ type }) => type === 1);
    const fields = new FieldWriter().u32(1, 1).u32(2, 2).text(3, '6.1').text(4, 'boot').u64(6, 5);
    for (const { id, stdinBytes } of processes) {
      fields.bytes(
        5,
        new FieldWriter().u32(1, id).u32(2, 1).u32(3, 50).u64(4, 0).u64(5, 0).u64(6, stdinBytes).finish(),
      );
    }
    this.say(129, 0, Buffer.concat([hello?.payload.subarray(0, 16) ?? Buffer.alloc(16), fields.finish()]));
  }

  output(id: number, stream: 1 | 2, offset: number, text: string): void {
    const head = Buffer.alloc(9);
    head[0] = stream;
    head.writeBigUInt64LE(BigInt(offset), 1);
    this.say(132, id, Buffer.concat([head, Buffer.from(text)]));
  }

  started(id: number): void {
    this.say(131, id, new FieldWriter().u32(1, 77).finish());
  }

  window(id: number, offset: number): void {
    const payload = Buffer.alloc(8);
    payload.writeBigUInt64LE(BigInt(offset));
    this.say(134, id, payload);
  }
}
