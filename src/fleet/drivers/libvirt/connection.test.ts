/** The connection against a stand-in for libvirt that answers as a test says, byte by byte where it matters. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LibvirtConnection } from './connection.ts';
import { encodeFrame, type Frame } from './frames.ts';
import { KEEPALIVE_PROGRAM, PROCEDURE, REMOTE_PROGRAM } from './procedures.ts';
import { errorBody, LibvirtStandIn, reply } from './stand-in-fixture.ts';
import { XdrWriter } from './xdr.ts';

function connected(oneAtATime = false): { standIn: LibvirtStandIn; connection: LibvirtConnection } {
  const standIn = new LibvirtStandIn();
  return { standIn, connection: new LibvirtConnection(standIn, { where: 'test:///stand-in', oneAtATime }) };
}

test('replies cut into single bytes and in another order find their calls', async () => {
  const { standIn, connection } = connected();
  const held: Frame[] = [];
  standIn.answer = (frame) => {
    held.push(frame);
    if (held.length < 3) return [];
    const bytes = Buffer.concat([...held].reverse().map((one) => reply(one, new XdrWriter().int(one.serial).bytes())));
    return [...bytes].map((byte) => Buffer.from([byte]));
  };
  const calls = [1, 2, 3].map(() => connection.call(PROCEDURE.connectGetType));
  assert.deepEqual(
    (await Promise.all(calls)).map((reader) => reader.int()),
    held.map((frame) => frame.serial),
  );
  connection.close();
});

test("libvirt's errors become ours, and every call is settled", async () => {
  const { standIn, connection } = connected();
  const errors: [number, string][] = [
    [42, 'not_found'],
    [3, 'unsupported'],
    [55, 'conflict'],
    [45, 'unauthenticated'],
    [29, 'denied'],
    [1, 'unavailable'],
  ];
  for (const [code, kind] of errors) {
    standIn.answer = (frame) => [reply(frame, errorBody(code, 'words of libvirt'), 1)];
    await assert.rejects(connection.call(PROCEDURE.domainCreate), { kind, message: /words of libvirt/ });
  }
  connection.close();
});

test('the end of the connection settles what waits, and what is called later', async () => {
  const { standIn, connection } = connected();
  const waiting = connection.call(PROCEDURE.connectGetType);
  standIn.push(null);
  await assert.rejects(waiting, { kind: 'unavailable' });
  assert.equal((await connection.ended)?.code, 'libvirt.broken');
  await assert.rejects(connection.call(PROCEDURE.connectGetType), { kind: 'unavailable' });
});

test('what is not libvirt ends the connection at once', async () => {
  const { standIn, connection } = connected();
  const waiting = connection.call(PROCEDURE.connectGetType);
  standIn.push('HTTP/1.1 400 Bad Request\r\n\r\n');
  await assert.rejects(waiting, { kind: 'invalid', hint: /socket of libvirt/ });
});

test('a call that nobody answers ends at its deadline, and its late answer hurts nobody', async () => {
  const { standIn, connection } = connected();
  await assert.rejects(connection.call(PROCEDURE.connectGetType, undefined, 5), { kind: 'timeout' });
  const [late] = standIn.seen;
  assert.ok(late);
  standIn.push(reply(late));
  standIn.answer = (frame) => [reply(frame, new XdrWriter().int(1).bytes())];
  assert.equal((await connection.call(PROCEDURE.connectGetType)).int(), 1);
  connection.close();
  assert.equal(await connection.ended, undefined);
});

test('a message goes to its listener, a ping is answered, an unknown program is passed over', async () => {
  const { standIn, connection } = connected();
  const heard: number[] = [];
  connection.listen(318, (body) => heard.push(body.int()));
  const frame = {
    program: REMOTE_PROGRAM,
    version: 1,
    procedure: 318,
    type: 2,
    serial: 0,
    status: 0,
    body: new XdrWriter().int(9).bytes(),
  };
  standIn.push(encodeFrame(frame));
  standIn.push(encodeFrame({ ...frame, procedure: 999 }));
  standIn.push(encodeFrame({ ...frame, program: KEEPALIVE_PROGRAM, procedure: 1, body: Buffer.alloc(0) }));
  standIn.answer = (one) => (one.type === 0 ? [reply(one, new XdrWriter().int(1).bytes())] : []);
  await connection.call(PROCEDURE.connectGetType);
  assert.deepEqual(heard, [9]);
  assert.ok(standIn.seen.some((one) => one.program === KEEPALIVE_PROGRAM && one.procedure === 2));
  connection.close();
});

test('an event whose body is too short ends the connection with the reason instead of the program', async () => {
  const { standIn, connection } = connected();
  connection.listen(318, (body) => body.hyper());
  const short = {
    program: REMOTE_PROGRAM,
    version: 1,
    procedure: 318,
    type: 2,
    serial: 0,
    status: 0,
    body: Buffer.alloc(4),
  };
  standIn.push(encodeFrame(short));
  assert.equal((await connection.ended)?.code, 'libvirt.malformed');
});

test('one at a time: the next call is sent when the one before is answered or given up', async () => {
  const { standIn, connection } = connected(true);
  const calls = [connection.call(1, undefined, 5), connection.call(2), connection.call(3)];
  standIn.answer = (frame) => {
    assert.equal(standIn.seen.length, frame.serial);
    return frame.procedure === 1 ? [] : [reply(frame)];
  };
  const outcomes = await Promise.allSettled(calls);
  assert.deepEqual(
    outcomes.map((one) => one.status),
    ['rejected', 'fulfilled', 'fulfilled'],
  );
  connection.close();
});
