/** A stand-in for libvirt, for tests: it answers each frame as the test says, byte by byte where it matters. */
import { Duplex } from 'node:stream';
import { encodeFrame, type Frame, FrameReader } from './frames.ts';
import { XdrWriter } from './xdr.ts';

export class LibvirtStandIn extends Duplex {
  readonly seen: Frame[] = [];
  readonly #reader = new FrameReader();
  answer: (frame: Frame) => readonly Buffer[] = () => [];

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    for (const frame of this.#reader.feed(chunk)) {
      this.seen.push(frame);
      for (const bytes of this.answer(frame)) this.push(bytes);
    }
    done();
  }
}

export const reply = (frame: Frame, body: Buffer = Buffer.alloc(0), status = 0): Buffer =>
  encodeFrame({ ...frame, type: 1, status, body });
export const errorBody = (code: number, message: string): Buffer =>
  new XdrWriter()
    .int(code)
    .int(0)
    .optional(message, (writer, text) => writer.string(text))
    .bytes();
