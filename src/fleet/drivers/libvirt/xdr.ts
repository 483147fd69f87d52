/**
 * XDR, as libvirt uses it: everything in units of four bytes, big-endian, strings and opaque data padded with zeros.
 *
 * @source RFC 4506
 */
import { BerthError } from '#base';

/** libvirt's own bound on one string (VIR_NET_MESSAGE_STRING_MAX). */
const MOST_STRING_BYTES = 4 * 1024 * 1024;
/** Above every limit of libvirt on a list (domains: 16384, statistics of one domain: 4096). */
const MOST_LIST = 65_536;

export class XdrWriter {
  readonly #parts: Buffer[] = [];

  int(value: number): this {
    const part = Buffer.alloc(4);
    part.writeInt32BE(value);
    this.#parts.push(part);
    return this;
  }

  uint(value: number): this {
    const part = Buffer.alloc(4);
    part.writeUInt32BE(value);
    this.#parts.push(part);
    return this;
  }

  hyper(value: bigint): this {
    const part = Buffer.alloc(8);
    part.writeBigInt64BE(value);
    this.#parts.push(part);
    return this;
  }

  /** Bytes of a length both sides know. */
  opaque(bytes: Uint8Array): this {
    this.#parts.push(Buffer.from(bytes), padding(bytes.length));
    return this;
  }

  string(value: string): this {
    const bytes = Buffer.from(value, 'utf8');
    return this.uint(bytes.length).opaque(bytes);
  }

  /** A pointer: whether it is there, then what it points to. */
  optional<T>(value: T | undefined, write: (writer: this, value: T) => void): this {
    this.uint(value === undefined ? 0 : 1);
    if (value !== undefined) write(this, value);
    return this;
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

function padding(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4);
}

/** Reads what it is asked for or throws: nothing a peer writes makes it read beyond the end or allocate without bound. */
export class XdrReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get leftBytes(): number {
    return this.#bytes.length - this.#at;
  }

  int(): number {
    return this.#take(4).readInt32BE();
  }

  uint(): number {
    return this.#take(4).readUInt32BE();
  }

  hyper(): bigint {
    return this.#take(8).readBigInt64BE();
  }

  unsignedHyper(): bigint {
    return this.#take(8).readBigUInt64BE();
  }

  double(): number {
    return this.#take(8).readDoubleBE();
  }

  opaque(length: number): Buffer {
    const bytes = this.#take(length);
    this.#take((4 - (length % 4)) % 4);
    return bytes;
  }

  string(): string {
    const length = this.uint();
    if (length > MOST_STRING_BYTES)
      throw malformed(`a string of ${length} bytes; at most ${MOST_STRING_BYTES} are read`);
    return this.opaque(length).toString('utf8');
  }

  optional<T>(read: (reader: this) => T): T | undefined {
    const there = this.uint();
    if (there > 1) throw malformed(`${there} where 0 or 1 says whether something follows`);
    return there === 1 ? read(this) : undefined;
  }

  list<T>(read: (reader: this) => T): T[] {
    const count = this.uint();
    // Every member takes four bytes at least.
    if (count > MOST_LIST || count * 4 > this.leftBytes)
      throw malformed(`a list of ${count} in ${this.leftBytes} bytes`);
    return Array.from({ length: count }, () => read(this));
  }

  #take(length: number): Buffer {
    if (length > this.leftBytes) throw malformed(`${length} bytes are expected, ${this.leftBytes} are left`);
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}

function malformed(what: string): BerthError {
  return new BerthError('invalid', 'libvirt.malformed', `libvirt sent a message that cannot be read: ${what}`);
}
