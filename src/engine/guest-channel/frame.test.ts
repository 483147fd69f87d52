import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { encodeFrames, type Frame, FrameReader, resyncPadding } from './frame.ts';
import { guestFrame, portions, seededRandom } from './guest-double.ts';

const NONCE = Buffer.from('0123456789abcdef');
const HELLO_ACK = guestFrame(129, 0, Buffer.concat([NONCE, Buffer.from('fields')]));

function feedAll(reader: FrameReader, chunks: Iterable<Uint8Array>): Frame[] {
  return [...chunks].flatMap((chunk) => reader.feed(chunk));
}

describe('frames towards the guest', () => {
  test('carry magic, id, length and a CRC over header and payload', () => {
    assert.equal(
      encodeFrames(4, 7, Buffer.from('123456789')).toString('hex'),
      'b37a040007000000090000003040c02f313233343536373839',
    );
  });

  test('a long message is cut at 16 KiB, with MORE in all but the last', () => {
    const bytes = encodeFrames(3, 1, Buffer.alloc(40_000, 1));
    assert.deepEqual(
      [0, 16_400, 32_800].map((at) => [bytes[at + 3], bytes.readUInt32LE(at + 8)]),
      [
        [1, 16_384],
        [1, 16_384],
        [0, 7232],
      ],
    );
  });

  test('a message beyond 1 MiB is refused before anything is sent', () => {
    assert.throws(() => encodeFrames(3, 1, Buffer.alloc(1024 * 1024 + 1)), { code: 'guest.message_too_large' });
  });

  test('the padding completes the longest frame that can be cut', () => {
    assert.equal(resyncPadding().length, 16_400);
  });
});

describe('the frame reader', () => {
  test('gives the same messages however the bytes are portioned', () => {
    const random = seededRandom(1);
    const payload = Buffer.from(Array.from({ length: 200_000 }, (_, i) => i % 251));
    const stream = Buffer.concat([
      HELLO_ACK,
      guestFrame(136, 1, Buffer.alloc(0)),
      guestFrame(135, 2, payload, 1000),
      guestFrame(132, 3, payload.subarray(0, 65_536)),
    ]);
    for (let round = 0; round < 50; round += 1) {
      const frames = feedAll(new FrameReader(NONCE), portions(stream, random, round === 0 ? 1 : 5000));
      assert.deepEqual(
        frames.map(({ type, id, payload: { length } }) => [type, id, length]),
        [
          [129, 0, 22],
          [136, 1, 0],
          [135, 2, 200_000],
          [132, 3, 65_536],
        ],
      );
      assert.ok(frames[2]?.payload.equals(payload));
    }
  });

  test('is deaf until its own nonce, whatever an older connection left behind', () => {
    const random = seededRandom(2);
    const stale = guestFrame(129, 0, Buffer.from('another nonce!!!'));
    for (let round = 0; round < 200; round += 1) {
      const torn = guestFrame(132, 0, Buffer.from(Array.from({ length: 300 }, () => Math.floor(random() * 256))));
      const stream = Buffer.concat([
        torn.subarray(Math.floor(random() * torn.length)),
        stale,
        torn.subarray(0, Math.floor(random() * torn.length)),
        NONCE, // inside output, without the header before it
        HELLO_ACK,
        guestFrame(136, 9, Buffer.alloc(0)),
      ]);
      const frames = feedAll(new FrameReader(NONCE), portions(stream, random, 60));
      assert.deepEqual(
        frames.map(({ type, id }) => [type, id]),
        [
          [129, 0],
          [136, 9],
        ],
      );
    }
  });

  test('once in step, a byte out of place is an error', () => {
    const reader = new FrameReader(NONCE);
    reader.feed(HELLO_ACK);
    assert.ok(reader.isSynced);
    assert.throws(() => reader.feed(Buffer.alloc(16, 1)), { code: 'guest.protocol' });
  });

  test('sizes beyond the protocol are errors, not allocations', () => {
    const large = guestFrame(132, 0, Buffer.alloc(0));
    large.writeUInt32LE(65_537, 8);
    const reader = new FrameReader(NONCE);
    assert.throws(() => reader.feed(Buffer.concat([HELLO_ACK, large])), { code: 'guest.protocol' });
    const endless = new FrameReader(NONCE);
    endless.feed(HELLO_ACK);
    const part = guestFrame(135, 1, Buffer.alloc(65_536));
    part[3] = 1;
    assert.throws(
      () => {
        for (let i = 0; i < 65; i += 1) endless.feed(part);
      },
      { code: 'guest.protocol' },
    );
  });

  test('a message may not begin inside another', () => {
    const reader = new FrameReader(NONCE);
    const part = guestFrame(135, 1, Buffer.alloc(10));
    part[3] = 1;
    assert.throws(() => reader.feed(Buffer.concat([HELLO_ACK, part, guestFrame(136, 1, Buffer.alloc(0))])), {
      code: 'guest.protocol',
    });
  });
});
