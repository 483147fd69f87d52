/**
 * Frames of libvirt's RPC: a length that counts itself, six words of header, the body.
 *
 *     length | program | version | procedure | type | serial | status | body …
 *
 * Pure: bytes in, whole frames out, whatever way they were cut on the wire.
 *
 * @source libvirt, docs/kbase/internals/rpc.rst; src/rpc/virnetprotocol.x (facts)
 */
import { BerthError } from '#base';
import { XdrReader, XdrWriter } from './xdr.ts';

const LENGTH_BYTES = 4;
const HEADER_BYTES = 24;
/** VIR_NET_MESSAGE_MAX of libvirt 6.0 and later, and the length before it. */
const MOST_FRAME_BYTES = 32 * 1024 * 1024 + LENGTH_BYTES;

export const FRAME_TYPE = { call: 0, reply: 1, message: 2, stream: 3 } as const;
export const FRAME_STATUS = { ok: 0, error: 1, continues: 2 } as const;

export interface Frame {
  readonly program: number;
  readonly version: number;
  readonly procedure: number;
  readonly type: number;
  readonly serial: number;
  readonly status: number;
  readonly body: Buffer;
}

export function encodeFrame(frame: Frame): Buffer {
  return new XdrWriter()
    .uint(LENGTH_BYTES + HEADER_BYTES + frame.body.length)
    .uint(frame.program)
    .uint(frame.version)
    .int(frame.procedure)
    .uint(frame.type)
    .uint(frame.serial)
    .uint(frame.status)
    .opaque(frame.body)
    .bytes();
}

export class FrameReader {
  #chunks: Buffer[] = [];
  #heldBytes = 0;

  /** @throws libvirt.malformed (invalid) for a length that cannot be; nothing after it can be trusted. */
  feed(chunk: Buffer): Frame[] {
    if (chunk.length > 0) this.#chunks.push(chunk);
    this.#heldBytes += chunk.length;
    const frames: Frame[] = [];
    while (this.#heldBytes >= LENGTH_BYTES) {
      const length = this.#peekLength();
      if (length < LENGTH_BYTES + HEADER_BYTES || length > MOST_FRAME_BYTES) {
        throw new BerthError('invalid', 'libvirt.malformed', `libvirt announced a message of ${length} bytes`, {
          hint: 'is that the socket of libvirt?',
        });
      }
      if (this.#heldBytes < length) break;
      frames.push(decode(this.#take(length)));
    }
    return frames;
  }

  #peekLength(): number {
    const [first] = this.#chunks;
    if (first !== undefined && first.length >= LENGTH_BYTES) return first.readUInt32BE();
    this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0]?.readUInt32BE() ?? 0;
  }

  #take(length: number): Buffer {
    const [first] = this.#chunks;
    // Joined once for each frame, not for each chunk: a large reply comes in hundreds.
    const whole = first !== undefined && this.#chunks.length === 1 ? first : Buffer.concat(this.#chunks);
    const rest = whole.subarray(length);
    this.#chunks = rest.length === 0 ? [] : [rest];
    this.#heldBytes -= length;
    return whole.subarray(0, length);
  }
}

function decode(bytes: Buffer): Frame {
  const reader = new XdrReader(bytes.subarray(LENGTH_BYTES));
  return {
    program: reader.uint(),
    version: reader.uint(),
    procedure: reader.int(),
    type: reader.uint(),
    serial: reader.uint(),
    status: reader.uint(),
    body: bytes.subarray(LENGTH_BYTES + HEADER_BYTES),
  };
}
