import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { BerthError, MIB } from '#base';
import { files } from '#platform';
import { BlockUnpacker } from './checkpoint-blocks.ts';

const BYTES = 3 * MIB + 100;

function runOf(offset: number, data: Buffer, length: number = data.length): Buffer {
  const header = Buffer.alloc(12);
  header.writeBigUInt64LE(BigInt(offset), 0);
  header.writeUInt32LE(length, 8);
  return Buffer.concat([header, data]);
}

describe('a stream of blocks', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'blocks-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  const unpack = async (stream: Buffer, pieceBytes: number): Promise<Buffer> => {
    const path = join(folder, 'file');
    writeFileSync(path, '');
    truncateSync(path, BYTES);
    const handle = await files.open(path, 'r+');
    try {
      const unpacker = new BlockUnpacker(handle, BYTES, 'x.blocks');
      for (let at = 0; at < stream.length; at += pieceBytes) await unpacker.take(stream.subarray(at, at + pieceBytes));
      unpacker.finish();
    } finally {
      await handle.close();
    }
    return readFileSync(path);
  };

  test('is written to its places, however it is cut', async () => {
    const stream = Buffer.concat([
      runOf(4096, Buffer.alloc(8192, 1)),
      runOf(MIB, Buffer.alloc(4096, 2)),
      runOf(3 * MIB, Buffer.alloc(100, 3)),
    ]);
    const expected = Buffer.alloc(BYTES);
    expected
      .fill(1, 4096, 4096 + 8192)
      .fill(2, MIB, MIB + 4096)
      .fill(3, 3 * MIB);
    for (const piece of [1, 7, 4096, stream.length]) assert.ok((await unpack(stream, piece)).equals(expected));
  });

  test('is refused where it leaves the file, goes back, or ends inside a run', async () => {
    const page = Buffer.alloc(4096, 1);
    const cases: Buffer[] = [
      runOf(4 * MIB, page),
      runOf(3 * MIB, page),
      runOf(2 ** 53, page),
      runOf(100, page),
      runOf(0, Buffer.alloc(0)),
      runOf(0, page, 2 * MIB),
      runOf(MIB - 4096, Buffer.alloc(8192, 1)),
      Buffer.concat([runOf(8192, page), runOf(4096, page)]),
      runOf(0, page).subarray(0, 50),
      runOf(0, page).subarray(0, 5),
    ];
    for (const stream of cases)
      await assert.rejects(
        unpack(stream, 1000),
        (error) => error instanceof BerthError && error.code === 'checkpoint.damaged',
      );
  });

  test('a hole stays a hole', async () => {
    assert.equal((await unpack(runOf(0, Buffer.alloc(4096, 1)), 10)).length, BYTES);
    assert.ok((await files.stat(join(folder, 'file'))).blocks < 64);
  });
});
