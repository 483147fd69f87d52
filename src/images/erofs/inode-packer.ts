import type { BlockOutput } from './block-output.ts';
import { alignUp, BLOCK_BYTES, SLOT_BYTES } from './erofs-format.ts';

/**
 * Packs inodes, with their attributes and inline data, into blocks, and appends each block when it is full.
 *
 * A record that fits into a block never crosses one (the kernel refuses inline data that does); a larger one, which can
 * only be an inode with large attributes and no inline data, starts at a block of its own. `onPlaced` hears each record's byte offset
 * once its block is appended; `flush` must be called at a block boundary of the output only.
 */
export class InodePacker<Owner> {
  readonly #output: BlockOutput;
  readonly #onPlaced: (owner: Owner, offset: number) => void;
  readonly #block = Buffer.alloc(BLOCK_BYTES);
  #used = 0;
  #pending: { readonly owner: Owner; readonly at: number }[] = [];

  constructor(output: BlockOutput, onPlaced: (owner: Owner, offset: number) => void) {
    this.#output = output;
    this.#onPlaced = onPlaced;
  }

  /** The buffer and offset to write a record of `length` bytes (at most a block) to. */
  reserve(owner: Owner, length: number): { block: Buffer; at: number } {
    if (this.#used + length > BLOCK_BYTES) this.flush();
    const at = this.#used;
    this.#pending.push({ owner, at });
    this.#used = Math.min(BLOCK_BYTES, alignUp(at + length, SLOT_BYTES));
    return { block: this.#block, at };
  }

  /** Appends a record longer than a block. */
  placeLarge(owner: Owner, record: Buffer): void {
    this.flush();
    this.#onPlaced(owner, this.#output.position);
    this.#output.append(record);
    this.#output.padToBlock();
  }

  flush(): void {
    if (this.#used === 0) return;
    const start = this.#output.position;
    this.#output.append(this.#block);
    for (const { owner, at } of this.#pending) this.#onPlaced(owner, start + at);
    this.#pending = [];
    this.#used = 0;
    this.#block.fill(0);
  }
}
