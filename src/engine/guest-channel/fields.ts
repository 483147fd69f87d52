/** The tag-length-value fields of guest/PROTOCOL.md: `u16 tag, u32 length, value`, little-endian. */
import { protocolError } from './frame.ts';

export class FieldWriter {
  readonly #parts: Buffer[] = [];

  bytes(tag: number, value: Uint8Array): this {
    const head = Buffer.alloc(6);
    head.writeUInt16LE(tag, 0);
    head.writeUInt32LE(value.length, 2);
    this.#parts.push(head, Buffer.from(value));
    return this;
  }

  text(tag: number, value: string): this {
    return this.bytes(tag, Buffer.from(value, 'utf8'));
  }

  u32(tag: number, value: number): this {
    return this.bytes(tag, u32(value));
  }

  u64(tag: number, value: bigint | number): this {
    return this.bytes(tag, u64(value));
  }

  finish(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

export function u16(value: number): Buffer {
  const raw = Buffer.alloc(2);
  raw.writeUInt16LE(value);
  return raw;
}

/** Negative numbers become their two's complement. */
export function u32(value: number): Buffer {
  const raw = Buffer.alloc(4);
  raw.writeUInt32LE(value >>> 0);
  return raw;
}

export function u64(value: bigint | number): Buffer {
  const raw = Buffer.alloc(8);
  raw.writeBigUInt64LE(BigInt(value));
  return raw;
}

/** Decoded fields. A tag that is absent reads as undefined; of one that repeats, the single readers return the last. */
export class Fields {
  readonly #values = new Map<number, Buffer[]>();

  /** @throws guest.protocol (data_loss) when the payload ends inside a field. */
  constructor(payload: Buffer) {
    let at = 0;
    while (at < payload.length) {
      if (payload.length - at < 6) throw protocolError('a field is cut in its head');
      const tag = payload.readUInt16LE(at);
      const length = payload.readUInt32LE(at + 2);
      at += 6;
      if (length > payload.length - at) throw protocolError(`field ${tag} is cut`);
      const values = this.#values.get(tag) ?? [];
      values.push(payload.subarray(at, at + length));
      this.#values.set(tag, values);
      at += length;
    }
  }

  all(tag: number): readonly Buffer[] {
    return this.#values.get(tag) ?? [];
  }

  text(tag: number): string | undefined {
    return this.all(tag).at(-1)?.toString('utf8');
  }

  u32(tag: number): number | undefined {
    const value = this.all(tag).at(-1);
    return value !== undefined && value.length >= 4 ? value.readUInt32LE(0) : undefined;
  }

  /** As a number: offsets, times and sizes stay below 2^53. @throws guest.protocol when one does not. */
  u64(tag: number): number | undefined {
    const value = this.all(tag).at(-1);
    return value !== undefined && value.length >= 8 ? readU64(value, 0) : undefined;
  }
}

export function readU64(bytes: Buffer, at: number): number {
  const value = bytes.readBigUInt64LE(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw protocolError(`the number ${value} is beyond 2^53`);
  return Number(value);
}
