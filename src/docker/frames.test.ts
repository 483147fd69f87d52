import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { frame, write } from './frames.ts';

test('a frame is the stream’s number, three zeros, the length and the bytes', () => {
  assert.deepEqual([...frame(1, Buffer.from('ab'))], [1, 0, 0, 0, 0, 0, 0, 2, 97, 98]);
  assert.deepEqual([...frame(2, Buffer.alloc(0))], [2, 0, 0, 0, 0, 0, 0, 0]);
  assert.equal(frame(1, Buffer.alloc(70_000)).readUInt32BE(4), 70_000);
});

test('writing waits for room, and for nobody who has left', async () => {
  const output = new PassThrough({ highWaterMark: 4 });
  let isTaken = false;
  const full = write(output, Buffer.alloc(10)).then(() => {
    isTaken = true;
  });
  await Promise.resolve();
  assert.equal(isTaken, false);
  output.resume();
  await full;
  const stuck = new PassThrough({ highWaterMark: 4 });
  const waiting = write(stuck, Buffer.alloc(10));
  stuck.destroy();
  await waiting;
  await write(stuck, 'into the void');
});
