import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AnswerPart, AnswerReader } from './http-reader.ts';

/** Feeds `text` in pieces of `size` bytes; gives status and body, or the raw bytes after 101. */
function read(text: string, size: number, ends = false): { status: number; body: string; ended: boolean; raw: string } {
  const reader = new AnswerReader('GET');
  const result = { status: 0, body: '', ended: false, raw: '' };
  const take = (parts: AnswerPart[]): void => {
    for (const part of parts) {
      if (part.kind === 'head') result.status = part.head.status;
      else if (part.kind === 'data') result.body += part.data.toString();
      else if (part.kind === 'raw') result.raw += part.data.toString();
      else result.ended = true;
    }
  };
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += size) take(reader.feed(bytes.subarray(at, at + size)));
  if (ends) take(reader.end());
  return result;
}

for (const size of [1, 2, 7, 1000]) {
  test(`a counted body is read in pieces of ${size}`, () => {
    const got = read('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello', size);
    assert.deepEqual(got, { status: 200, body: 'hello', ended: true, raw: '' });
  });

  test(`a chunked body is read in pieces of ${size}`, () => {
    const got = read(
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\na;x=y\r\n, chunks!!\r\n0\r\n\r\n',
      size,
    );
    assert.deepEqual(got, { status: 200, body: 'hello, chunks!!', ended: true, raw: '' });
  });

  test(`a body without a length ends with the connection, in pieces of ${size}`, () => {
    assert.deepEqual(read('HTTP/1.1 200 OK\r\n\r\nhello', size, true), {
      status: 200,
      body: 'hello',
      ended: true,
      raw: '',
    });
  });

  test(`what follows 101 is given as it is, in pieces of ${size}`, () => {
    const got = read('HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n\u0001\u0000\r\n\r\nraw', size);
    assert.deepEqual([got.status, got.raw], [101, '\u0001\u0000\r\n\r\nraw']);
  });
}

test('an answer without a body has ended at once', () => {
  assert.equal(read('HTTP/1.1 204 No Content\r\n\r\n', 1000).ended, true);
  assert.equal(read('HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n', 1000).ended, true);
});

test('a connection that breaks in the body is an error', () => {
  assert.throws(() => read('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello', 1000, true), { code: 'http.cut' });
  assert.throws(() => read('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n', 1000, true), {
    code: 'http.cut',
  });
});

test('bytes that are no HTTP are refused', () => {
  assert.throws(() => read('SSH-2.0-OpenSSH\r\n\r\n', 1000), { code: 'http.malformed' });
  assert.throws(() => read('HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n', 1000), { code: 'http.malformed' });
  assert.throws(() => read('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', 1000), {
    code: 'http.malformed',
  });
});
