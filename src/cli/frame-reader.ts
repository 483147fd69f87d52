/**
 * Docker's frames of two streams on one connection: `{type, 0, 0, 0, size as u32 big-endian}` and the bytes. A byte
 * machine: it may be fed in any pieces, and gives what it has at once.
 */
export interface Piece {
  readonly name: 'stdout' | 'stderr';
  readonly data: Buffer;
}

const HEADER_BYTES = 8;

export class FrameReader {
  #header = Buffer.alloc(0);
  #left = 0;
  #name: Piece['name'] = 'stdout';

  feed(data: Buffer): Piece[] {
    const pieces: Piece[] = [];
    let rest = data;
    while (rest.length > 0) {
      if (this.#left > 0) {
        const part = rest.subarray(0, this.#left);
        pieces.push({ name: this.#name, data: part });
        this.#left -= part.length;
        rest = rest.subarray(part.length);
        continue;
      }
      const missing = HEADER_BYTES - this.#header.length;
      this.#header = Buffer.concat([this.#header, rest.subarray(0, missing)]);
      rest = rest.subarray(missing);
      if (this.#header.length < HEADER_BYTES) break;
      this.#name = this.#header[0] === 2 ? 'stderr' : 'stdout';
      this.#left = this.#header.readUInt32BE(4);
      this.#header = Buffer.alloc(0);
    }
    return pieces;
  }
}
