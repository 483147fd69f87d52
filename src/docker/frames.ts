/**
 * Docker's framing of two output streams on one connection: `{type, 0, 0, 0, size as u32 big-endian}` and the bytes.
 * With a terminal there is only one stream and no frames.
 */
import type { Writable } from 'node:stream';

export const MULTIPLEXED = 'application/vnd.docker.multiplexed-stream';
export const RAW = 'application/vnd.docker.raw-stream';

export function frame(stream: 1 | 2, data: Buffer): Buffer {
  const framed = Buffer.allocUnsafe(8 + data.length);
  framed.writeUInt32BE(stream * 0x1000000, 0);
  framed.writeUInt32BE(data.length, 4);
  data.copy(framed, 8);
  return framed;
}

/** Resolves when the client has room for more, or has left. */
export function write(output: Writable, data: Buffer | string): Promise<void> {
  if (output.destroyed || output.writableEnded) return Promise.resolve();
  if (output.write(data)) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      output.off('drain', done);
      output.off('close', done);
      resolve();
    };
    output.on('drain', done);
    output.on('close', done);
  });
}
