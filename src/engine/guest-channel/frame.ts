/**
 * The frames of guest/PROTOCOL.md, berthd's side: a pure encoder and a pure byte machine.
 *
 * After a connect the reader is deaf: it drops every byte until it has seen a HELLO_ACK header followed by the nonce of our
 * HELLO (32 bytes in sequence). From then on a byte out of place is a protocol error, because the guest's side of the
 * stream has no checksum and no way to lose a byte except by a broken connection.
 */
import { crc32 } from 'node:zlib';
import { BerthError, KIB, MIB } from '#base';

const MAGIC = [0xb3, 0x7a] as const;
const HEADER_BYTES = 16;
const FLAG_MORE = 1;
const MAX_FRAME_TO_GUEST = 16 * KIB;
const MAX_FRAME_TO_HOST = 64 * KIB;
const MAX_MESSAGE_TO_GUEST = MIB;
/** TOP_REPLY of a guest with very many processes is the largest; the guest stops there too. */
const MAX_MESSAGE_TO_HOST = 4 * MIB;
export const NONCE_BYTES = 16;
/** A frame towards the guest that was cut is completed by this many zeros at most: header and the largest payload. */
const RESYNC_ZEROS = HEADER_BYTES + MAX_FRAME_TO_GUEST;

const HELLO_ACK = 129;

export interface Frame {
  readonly type: number;
  readonly id: number;
  readonly payload: Buffer;
}

/** Zero bytes to send before HELLO to a guest that has been spoken to before. */
export function resyncPadding(): Buffer {
  return Buffer.alloc(RESYNC_ZEROS);
}

/**
 * One message towards the guest, cut into frames.
 *
 * @throws guest.message_too_large (invalid) beyond 1 MiB.
 */
export function encodeFrames(type: number, id: number, payload: Uint8Array): Buffer {
  if (payload.length > MAX_MESSAGE_TO_GUEST) {
    throw new BerthError(
      'invalid',
      'guest.message_too_large',
      `a message of ${payload.length} bytes for the guest exceeds ${MAX_MESSAGE_TO_GUEST} bytes`,
      { hint: 'shorten the arguments or the environment' },
    );
  }
  const frames: Buffer[] = [];
  let offset = 0;
  do {
    const part = payload.subarray(offset, offset + MAX_FRAME_TO_GUEST);
    offset += part.length;
    const header = Buffer.alloc(HEADER_BYTES);
    header[0] = MAGIC[0];
    header[1] = MAGIC[1];
    header[2] = type;
    header[3] = offset < payload.length ? FLAG_MORE : 0;
    header.writeUInt32LE(id, 4);
    header.writeUInt32LE(part.length, 8);
    header.writeUInt32LE(crc32(part, crc32(header.subarray(0, 12))), 12);
    frames.push(header, Buffer.from(part));
  } while (offset < payload.length);
  return Buffer.concat(frames);
}

/** Bytes from the guest in, whole messages out. Feed it in any portions. */
export class FrameReader {
  readonly #anchor: Buffer;
  #synced = false;
  /** What has arrived and is not consumed yet. */
  #pending: Buffer = Buffer.alloc(0);
  #parts: { type: number; id: number; chunks: Buffer[]; bytes: number } | undefined;

  /** @param nonce - the 16 bytes of the HELLO this connection begins with. */
  constructor(nonce: Uint8Array) {
    if (nonce.length !== NONCE_BYTES) throw new BerthError('bug', 'bug.nonce', `a nonce has ${NONCE_BYTES} bytes`);
    this.#anchor = Buffer.from(nonce);
  }

  get isSynced(): boolean {
    return this.#synced;
  }

  /**
   * @returns the messages completed by these bytes. A payload is a copy or a view of bytes nobody writes to again.
   * @throws guest.protocol (data_loss) when the stream is damaged; the connection is of no more use.
   */
  feed(bytes: Uint8Array): Frame[] {
    const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const frames: Frame[] = [];
    if (!this.#synced && !this.#findAnchor()) return frames;
    for (let frame = this.#take(); frame !== undefined; frame = this.#take()) {
      const whole = this.#assemble(frame);
      if (whole !== undefined) frames.push(whole);
    }
    // What is left over may be a view of a large chunk; a copy lets the chunk go.
    if (this.#pending.length > 0) this.#pending = Buffer.from(this.#pending);
    return frames;
  }

  #findAnchor(): boolean {
    for (let at = this.#pending.indexOf(this.#anchor); at !== -1; at = this.#pending.indexOf(this.#anchor, at + 1)) {
      const start = at - HEADER_BYTES;
      if (start < 0 || !isHelloAckHeader(this.#pending, start)) continue;
      this.#pending = this.#pending.subarray(start);
      this.#synced = true;
      return true;
    }
    const keep = HEADER_BYTES + NONCE_BYTES - 1;
    if (this.#pending.length > keep) this.#pending = Buffer.from(this.#pending.subarray(-keep));
    return false;
  }

  #take(): (Frame & { more: boolean }) | undefined {
    const pending = this.#pending;
    if (pending.length < HEADER_BYTES) return undefined;
    if (pending[0] !== MAGIC[0] || pending[1] !== MAGIC[1]) {
      throw protocolError(`bytes ${pending.subarray(0, 2).toString('hex')} stand where a frame should begin`);
    }
    const length = pending.readUInt32LE(8);
    if (length > MAX_FRAME_TO_HOST) throw protocolError(`a frame announces ${length} bytes`);
    if (pending.length < HEADER_BYTES + length) return undefined;
    const frame = {
      type: pending.readUInt8(2),
      more: (pending.readUInt8(3) & FLAG_MORE) !== 0,
      id: pending.readUInt32LE(4),
      payload: pending.subarray(HEADER_BYTES, HEADER_BYTES + length),
    };
    this.#pending = pending.subarray(HEADER_BYTES + length);
    return frame;
  }

  #assemble(frame: Frame & { more: boolean }): Frame | undefined {
    const { type, id, more, payload } = frame;
    let parts = this.#parts;
    if (parts !== undefined && (parts.type !== type || parts.id !== id)) {
      throw protocolError(`a frame of type ${type} stands inside a message of type ${parts.type}`);
    }
    if (parts === undefined && !more) return { type, id, payload };
    parts ??= { type, id, chunks: [], bytes: 0 };
    parts.chunks.push(Buffer.from(payload));
    parts.bytes += payload.length;
    if (parts.bytes > MAX_MESSAGE_TO_HOST) throw protocolError(`a message exceeds ${MAX_MESSAGE_TO_HOST} bytes`);
    this.#parts = more ? parts : undefined;
    return more ? undefined : { type, id, payload: Buffer.concat(parts.chunks) };
  }
}

function isHelloAckHeader(bytes: Buffer, at: number): boolean {
  return bytes[at] === MAGIC[0] && bytes[at + 1] === MAGIC[1] && bytes[at + 2] === HELLO_ACK;
}

export function protocolError(what: string): BerthError {
  return new BerthError('data_loss', 'guest.protocol', `the guest channel is damaged: ${what}`);
}
