import assert from 'node:assert/strict';
import { test } from 'node:test';
import { payloadOf } from './kernel.ts';

function bzImage(setupSectors: number, offset: number, length: number, size: number): Buffer {
  const image = Buffer.alloc(size);
  image[0x1f1] = setupSectors;
  image.write('HdrS', 0x202, 'latin1');
  image.writeUInt32LE(offset, 0x248);
  image.writeUInt32LE(length, 0x24c);
  return image;
}

test('the kernel inside a bzImage is found behind its set-up sectors', () => {
  assert.deepEqual(payloadOf(bzImage(3, 100, 500, 4096)), { offset: 4 * 512 + 100, length: 500 });
  assert.deepEqual(payloadOf(bzImage(0, 0, 10, 4096)), { offset: 5 * 512, length: 10 }, 'no count means four');
});

test('what is not a bzImage, or is cut short, has no payload', () => {
  assert.equal(payloadOf(Buffer.alloc(100)), undefined);
  assert.equal(payloadOf(Buffer.alloc(4096)), undefined);
  assert.equal(payloadOf(bzImage(3, 100, 5000, 4096)), undefined);
});
