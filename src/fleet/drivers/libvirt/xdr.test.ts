import assert from 'node:assert/strict';
import { test } from 'node:test';
import { XdrReader, XdrWriter } from './xdr.ts';

test('what is written is read again, and everything takes whole words', () => {
  for (const text of ['', 'a', 'ab', 'abc', 'abcd', 'zürich']) {
    const bytes = new XdrWriter()
      .string(text)
      .int(-7)
      .hyper(-(2n ** 63n))
      .optional('x', (writer, value) => writer.string(value))
      .optional(undefined, () => {})
      .bytes();
    assert.equal(bytes.length % 4, 0);
    const reader = new XdrReader(bytes);
    assert.equal(reader.string(), text);
    assert.equal(reader.int(), -7);
    assert.equal(reader.hyper(), -(2n ** 63n));
    assert.equal(
      reader.optional((one) => one.string()),
      'x',
    );
    assert.equal(
      reader.optional((one) => one.string()),
      undefined,
    );
    assert.equal(reader.leftBytes, 0);
  }
});

test('the bytes are those of RFC 4506', () => {
  assert.equal(new XdrWriter().uint(5).string('hi').bytes().toString('hex'), '00000005' + '00000002' + '68690000');
  assert.equal(new XdrReader(Buffer.from('4059000000000000', 'hex')).double(), 100);
});

test('a length beyond the end, a huge string, a huge list and a pointer that is neither are refused', () => {
  const refused = (hex: string, read: (reader: XdrReader) => unknown): void =>
    assert.throws(() => read(new XdrReader(Buffer.from(hex, 'hex'))), { code: 'libvirt.malformed' });
  refused('000000', (reader) => reader.int());
  refused('0000000561626364', (reader) => reader.string());
  refused('7fffffff', (reader) => reader.string());
  refused('ffffffff', (reader) => reader.list((one) => one.int()));
  refused('0000000200000001', (reader) => reader.list((one) => one.int()));
  refused('00000002', (reader) => reader.optional((one) => one.int()));
});

test('bytes at random are read or refused, never a crash of another kind', () => {
  let seed = 7;
  const random = (): number => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return seed;
  };
  for (let round = 0; round < 2_000; round += 1) {
    const reader = new XdrReader(
      Buffer.from(Array.from({ length: random() % 64 }, () => random() & (round % 2 ? 0xff : 3))),
    );
    try {
      for (;;) {
        const pick = random() % 4;
        if (pick === 0) reader.string();
        else if (pick === 1) reader.list((one) => one.optional((inner) => inner.int()));
        else if (pick === 2) reader.unsignedHyper();
        else reader.opaque(random() % 9);
        if (reader.leftBytes === 0) break;
      }
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'libvirt.malformed');
    }
  }
});
