import assert from 'node:assert/strict';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import { BerthError } from '#base';
import { QmpClient, QmpReader } from './qmp.ts';

/** The other end of a QMP connection, held by the test. */
class Wire extends Duplex {
  readonly sent: string[] = [];
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.sent.push(chunk.toString());
    done();
  }
  answer(value: unknown): void {
    this.push(`${JSON.stringify(value)}\r\n`);
  }
}

function client(onEvent: (name: string) => void = () => {}): { wire: Wire; qmp: QmpClient; closed: () => boolean } {
  const wire = new Wire();
  let gone = false;
  const qmp = new QmpClient(wire, {
    onEvent,
    onClosed: () => {
      gone = true;
    },
  });
  return { wire, qmp, closed: () => gone };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('the reader gives the same messages whatever way the bytes are cut', () => {
  const text =
    '{"QMP":{}}\r\n{"return":{},"id":1}\n{"event":"STOP","data":{"a":1}}\n{"error":{"class":"C","desc":"no"},"id":2}\n';
  const whole = new QmpReader().feed(text);
  assert.equal(whole.length, 4);
  for (let size = 1; size < text.length; size += 3) {
    const reader = new QmpReader();
    const pieces: unknown[] = [];
    for (let at = 0; at < text.length; at += size) pieces.push(...reader.feed(text.slice(at, at + size)));
    assert.deepEqual(pieces, whole);
  }
});

test('what is not QMP, or a line without an end, is refused', () => {
  assert.throws(() => new QmpReader().feed('hello\n'), /not QMP/);
  assert.throws(() => new QmpReader().feed('[1]\n'), /not an object/);
  assert.throws(() => new QmpReader().feed('x'.repeat(5 * 1024 * 1024)), /longer than/);
});

test('replies are matched by id, out of order, and errors carry QEMU’s words', async () => {
  const { wire, qmp } = client();
  const first = qmp.execute('query-status');
  const second = qmp.execute('bad');
  const refused = assert.rejects(
    second,
    (error: unknown) => error instanceof BerthError && /no such command/.test(error.message),
  );
  wire.answer({ error: { class: 'CommandNotFound', desc: 'no such command' }, id: 2 });
  wire.answer({ return: { status: 'running' }, id: 1 });
  assert.deepEqual(await first, { status: 'running' });
  await refused;
});

test('a request without an answer fails at its deadline, and a late answer harms nobody', async () => {
  const { wire, qmp } = client();
  await assert.rejects(qmp.execute('stop', {}, 10), /did not answer stop within 10 ms/);
  wire.answer({ return: {}, id: 1 });
  const next = qmp.execute('cont');
  wire.answer({ return: {}, id: 2 });
  await next;
});

test('every pending request settles when the connection closes', async () => {
  const { wire, qmp, closed } = client();
  const pending = [qmp.execute('a'), qmp.execute('b')].map((request) =>
    assert.rejects(request, /closed before it answered/),
  );
  wire.destroy();
  await Promise.all(pending);
  assert.ok(closed());
  await assert.rejects(qmp.execute('c'), /closed/);
});

test('garbage from QEMU closes the connection instead of hanging', async () => {
  const { wire, qmp, closed } = client();
  const pending = assert.rejects(qmp.execute('a'), /closed/);
  wire.push('garbage\n');
  await pending;
  await turn();
  assert.ok(closed());
});

test('events reach the listener between replies', async () => {
  const seen: string[] = [];
  const { wire } = client((name) => seen.push(name));
  wire.answer({ event: 'STOP', data: {} });
  wire.answer({ event: 'RESUME' });
  await turn();
  assert.deepEqual(seen, ['STOP', 'RESUME']);
});
