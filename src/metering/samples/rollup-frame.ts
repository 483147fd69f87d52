/**
 * Rollups as bytes: frames that are added up. Each covers the samples of a segment between the frame before it and
 * `coveredBytes`, and carries the last reading of every series, so that opening the store reads no sample twice. Pure.
 *
 *     "BSR1" · body bytes u32 · crc32 of the body u32 · covered bytes f64 · series u32 · hours u32
 *     body: ms f64[series] · value u64[series] · per hour: hour f64 · increase f64[series]
 */
import { crc32 } from 'node:zlib';
import type { RollupCells } from './rollups.ts';

const MAGIC = 0x31525342;
export const FRAME_HEADER_BYTES = 28;

export interface RollupFrame {
  readonly coveredBytes: number;
  readonly readings: { readonly atMs: Float64Array; readonly value: BigUint64Array };
  readonly cells: readonly RollupCells[];
}

export function writeFrame({ coveredBytes, readings, cells }: RollupFrame): Buffer {
  const width = readings.atMs.length;
  const body = new ArrayBuffer(8 * (2 * width + cells.length * (width + 1)));
  new Float64Array(body, 0, width).set(readings.atMs);
  new BigUint64Array(body, 8 * width, width).set(readings.value);
  for (const [index, { hour, increase }] of cells.entries()) {
    const place = new Float64Array(body, 8 * (2 * width + index * (width + 1)), width + 1);
    place[0] = hour;
    place.set(increase.subarray(0, width), 1);
  }
  const bytes = Buffer.from(body);
  const header = Buffer.allocUnsafe(FRAME_HEADER_BYTES);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt32LE(bytes.length, 4);
  header.writeUInt32LE(crc32(bytes), 8);
  header.writeDoubleLE(coveredBytes, 12);
  header.writeUInt32LE(width, 20);
  header.writeUInt32LE(cells.length, 24);
  return Buffer.concat([header, bytes]);
}

/** All whole frames from the start of a file, and where they end; what follows is torn. */
export function readFrames(file: Buffer): { readonly frames: readonly RollupFrame[]; readonly bytes: number } {
  const frames: RollupFrame[] = [];
  let at = 0;
  while (at + FRAME_HEADER_BYTES <= file.length && file.readUInt32LE(at) === MAGIC) {
    const length = file.readUInt32LE(at + 4);
    const [width, hours] = [file.readUInt32LE(at + 20), file.readUInt32LE(at + 24)];
    const end = at + FRAME_HEADER_BYTES + length;
    const body = file.subarray(at + FRAME_HEADER_BYTES, end);
    if (
      end > file.length ||
      length !== 8 * (2 * width + hours * (width + 1)) ||
      crc32(body) !== file.readUInt32LE(at + 8)
    )
      break;
    const plain = new Uint8Array(body).buffer;
    frames.push({
      coveredBytes: file.readDoubleLE(at + 12),
      readings: { atMs: new Float64Array(plain, 0, width), value: new BigUint64Array(plain, 8 * width, width) },
      cells: Array.from({ length: hours }, (_, index) => {
        const place = new Float64Array(plain, 8 * (2 * width + index * (width + 1)), width + 1);
        return { hour: place[0] ?? 0, increase: place.subarray(1) };
      }),
    });
    at = end;
  }
  return { frames, bytes: at };
}
