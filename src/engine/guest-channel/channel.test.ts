import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { BerthError } from '#base';
import { GuestChannel } from './channel.ts';
import { FieldWriter } from './fields.ts';
import { GuestDouble } from './guest-double.ts';

function open() {
  const guest = new GuestDouble();
  const seen: string[] = [];
  let closed: { reason: BerthError | undefined } | undefined;
  const channel = new GuestChannel(guest, {
    onOutput: ({ id, stream, offset, data }) => seen.push(`${id} ${stream} ${offset} ${data}`),
    onExited: (id, exit) => seen.push(`${id} exited ${exit.exitCode} ${exit.signal ?? '-'} ${exit.oomKilled}`),
    onLog: (text) => seen.push(`log ${text}`),
    onSynced: () => seen.push('synced'),
    onClosed: (reason) => {
      assert.equal(closed, undefined, 'onClosed came twice');
      closed = { reason };
    },
  });
  return { guest, channel, seen, closed: () => closed };
}

async function joined(processes: readonly { id: number; stdinBytes: number }[] = []) {
  const all = open();
  const hello = all.channel.hello({ rejoin: false });
  all.guest.greet(processes);
  await hello;
  return all;
}

async function started() {
  const all = await joined();
  const start = all.channel.start(5, { args: ['cat'], stdin: true });
  all.guest.started(5);
  assert.deepEqual(await start, { ok: true, pid: 77 });
  return all;
}

describe('joining', () => {
  test('a first hello is sent alone, a rejoin after the padding', async () => {
    const first = await joined();
    assert.equal(first.guest.paddingBytes, 0);
    const { guest, channel } = open();
    const hello = channel.hello({ rejoin: true });
    assert.equal(guest.paddingBytes, 16_400);
    guest.greet([{ id: 3, stdinBytes: 10 }]);
    const { processes, phase } = await hello;
    assert.equal(phase, 'configured');
    assert.deepEqual(processes, [{ id: 3, state: 'running', pid: 50, stdoutBytes: 0, stderrBytes: 0, stdinBytes: 10 }]);
  });

  test('a guest that says nothing is a timeout', async () => {
    const { channel } = open();
    await assert.rejects(channel.hello({ rejoin: false, deadlineMs: 5 }), { kind: 'timeout', code: 'guest.deadline' });
  });
});

describe('requests', () => {
  test('each is settled by its own reply, in any order', async () => {
    const { guest, channel } = await joined();
    const [top, memory, ping] = [channel.top(), channel.memory(), channel.ping()];
    const ids = guest.sent.slice(-3).map(({ id }) => id);
    guest.say(136, ids[2] ?? 0);
    guest.say(139, ids[1] ?? 0, new FieldWriter().u64(1, 10).u64(2, 9).u64(3, 8).u64(4, 7).u32(5, 3).finish());
    const record = new FieldWriter().u32(1, 40).u32(3, 0).text(4, 'root').text(7, '?').text(8, 'sh').finish();
    guest.say(135, ids[0] ?? 0, new FieldWriter().bytes(1, record).finish());
    await ping;
    assert.deepEqual(await memory, { totalBytes: 10, availableBytes: 9, freeBytes: 8, oomKills: 7, tcpConnections: 3 });
    assert.deepEqual(
      (await top).map(({ pid, user, command }) => [pid, user, command]),
      [[40, 'root', 'sh']],
    );
  });

  test('all are settled when the connection ends, and later ones at once', async () => {
    const { guest, channel, closed } = await joined();
    const waiting = [
      channel.top(),
      channel.memory(),
      channel.ping(),
      channel.start(1, { args: ['x'], stdin: true }),
      channel.sendStdin(1, Buffer.from('x')),
    ];
    guest.emit('close');
    for (const request of waiting) await assert.rejects(request, { code: 'guest.closed' });
    await assert.rejects(channel.ping(), { code: 'guest.closed' });
    assert.deepEqual(closed(), { reason: undefined });
  });

  test('a refused start is a value with the guest’s words', async () => {
    const { guest, channel } = await joined();
    const start = channel.start(9, { args: ['nosuch'], stdin: false });
    guest.say(131, 9, new FieldWriter().u32(2, 1).text(3, 'no such thing').finish());
    assert.deepEqual(await start, { ok: false, reason: 'not_found', text: 'no such thing' });
  });

  test('a failed configuration is an error that names the step', async () => {
    const { guest, channel } = await joined();
    const configure = channel.configure({ hostname: 'h', hosts: '', resolvConf: '', layers: [] });
    guest.say(130, 0, new FieldWriter().text(1, 'layer 3: No such device').text(2, 'layer 3').finish());
    await assert.rejects(configure, { code: 'guest.configure_failed', facts: { step: 'layer 3' } });
  });

  test('an address the wire cannot carry is refused without sending', async () => {
    const { guest, channel } = await joined();
    const before = guest.sent.length;
    const network = { mac: 'no', address: '10.0.0.1', prefixLength: 24 };
    const configure = channel.configure({ hostname: 'h', hosts: '', resolvConf: '', layers: [], network });
    await assert.rejects(configure, { code: 'guest.bad_value' });
    assert.equal(guest.sent.length, before);
  });
});

describe('output', () => {
  test('repeated bytes are trimmed, so each is seen once', async () => {
    const { guest, seen } = await started();
    guest.output(5, 1, 0, 'abc');
    guest.output(5, 1, 0, 'abc');
    guest.output(5, 1, 1, 'bcdef');
    guest.output(5, 2, 0, 'err');
    assert.deepEqual(seen, ['5 stdout 0 abc', '5 stdout 3 def', '5 stderr 0 err']);
  });

  test('a gap is a protocol error and ends the channel', async () => {
    const { guest, seen, closed } = await started();
    guest.output(5, 1, 1, 'b');
    assert.equal(closed()?.reason?.code, 'guest.protocol');
    guest.output(5, 1, 0, 'a');
    assert.deepEqual(seen, []);
    assert.ok(guest.isDestroyed);
  });

  test('resumes from where the owner says', async () => {
    const { guest, channel, seen } = await joined([{ id: 5, stdinBytes: 0 }]);
    channel.resume(5, { stdout: 100, stderr: 7 });
    assert.equal(guest.sent.at(-1)?.payload.toString('hex'), '64000000000000000700000000000000');
    guest.output(5, 1, 98, 'xxyz');
    guest.output(5, 2, 7, 'e');
    assert.deepEqual(seen, ['5 stdout 100 yz', '5 stderr 7 e']);
  });

  test('a handler that throws ends the channel instead of losing bytes', async () => {
    const guest = new GuestDouble();
    let reason: BerthError | undefined;
    const nothing = () => {};
    const channel = new GuestChannel(guest, {
      onOutput: nothing,
      onExited: nothing,
      onSynced: nothing,
      onLog: () => {
        throw new Error('full');
      },
      onClosed: (why) => {
        reason = why;
      },
    });
    const hello = channel.hello({ rejoin: false });
    guest.greet();
    await hello;
    guest.say(137, 0, Buffer.from('line'));
    assert.equal(reason?.kind, 'bug');
  });
});

describe('input', () => {
  const sentInput = (guest: GuestDouble) => Buffer.concat(guest.sent.filter((s) => s.type === 4).map((s) => s.payload));

  test('waits for the window and resolves when the last byte is on its way', async () => {
    const { guest, channel } = await started();
    let done = false;
    const sending = channel.sendStdin(5, Buffer.alloc(100_000, 'x')).then(() => {
      done = true;
    });
    channel.endStdin(5);
    assert.equal(sentInput(guest).length, 0);
    guest.window(5, 65_536);
    assert.equal(sentInput(guest).length, 65_536);
    await Promise.resolve();
    assert.equal(done, false);
    guest.window(5, 131_072);
    await sending;
    assert.equal(sentInput(guest).length, 100_000);
    assert.equal(guest.sent.at(-1)?.type, 5);
    assert.ok(guest.sent.filter((s) => s.type === 4).every((s) => s.payload.length <= 16_384));
  });

  test('waits while the stream is full', async () => {
    const { guest, channel } = await started();
    guest.window(5, 65_536);
    guest.accepts = false;
    const sending = channel.sendStdin(5, Buffer.alloc(40_000));
    assert.equal(sentInput(guest).length, 16_384);
    guest.accepts = true;
    guest.emit('drain');
    await sending;
    assert.equal(sentInput(guest).length, 40_000);
  });

  test('goes on after a rejoin from what the guest has received', async () => {
    const { guest, channel } = await joined([{ id: 5, stdinBytes: 1000 }]);
    channel.resume(5, { stdout: 0, stderr: 0 });
    guest.window(5, 1003);
    void channel.sendStdin(5, Buffer.from('abcdef')).catch(() => {});
    assert.equal(sentInput(guest).toString(), 'abc');
    channel.close();
  });

  test('is refused once the process has ended', async () => {
    const { guest, channel, seen } = await started();
    const sending = channel.sendStdin(5, Buffer.from('late'));
    guest.say(133, 5, new FieldWriter().u32(1, 137).u32(2, 9).u32(3, 1).finish());
    await assert.rejects(sending, { code: 'guest.stdin_closed' });
    await assert.rejects(channel.sendStdin(5, Buffer.from('later')), { code: 'guest.stdin_closed' });
    await assert.rejects(channel.sendStdin(6, Buffer.from('nobody')), { code: 'guest.stdin_closed' });
    assert.deepEqual(seen, ['5 exited 137 9 true']);
  });
});

test('messages and fields of a newer guest are skipped', async () => {
  const { guest, channel, closed } = await joined();
  guest.say(200, 1, Buffer.from('anything'));
  const ping = channel.ping();
  const newer = Buffer.concat([Buffer.from([7, 0, 0, 0, 0, 0, 0, 0]), new FieldWriter().text(999, 'new').finish()]);
  guest.say(136, guest.sent.at(-1)?.id ?? 0, newer);
  assert.equal(await ping, 7);
  assert.equal(closed(), undefined);
});

test('a payload that contradicts its type ends the channel', async () => {
  const { guest, closed } = await joined();
  guest.say(133, 5, Buffer.from([1, 0, 200]));
  assert.equal(closed()?.reason?.code, 'guest.protocol');
});

test('a guest that sends beyond its ring without acknowledgement is cut off, one that waits is not', async () => {
  const { guest, channel, closed } = await started();
  const half = 'x'.repeat(64 * 1024 - 9);
  guest.output(5, 1, 0, half);
  guest.output(5, 1, half.length, half);
  channel.ack(5, 'stdout', half.length);
  guest.output(5, 1, 2 * half.length, half);
  assert.equal(closed(), undefined, 'what was acknowledged makes room');
  guest.output(5, 1, 3 * half.length, half);
  assert.match(closed()?.reason?.message ?? '', /beyond the 131072 bytes that may be unacknowledged/);
});
