import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { followLog } from './log-follow.ts';
import { type OutputStream, ProcessLog } from './process-log.ts';

async function inFolder(body: (path: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-log-'));
  try {
    await body(join(folder, 'process.log'));
  } finally {
    await rm(folder, { recursive: true });
  }
}

function append(log: ProcessLog, run: number, stream: OutputStream, text: string): Promise<number> {
  return new Promise((resolve) => log.append(run, stream, Buffer.from(text), resolve));
}

async function textOf(log: ProcessLog, from = 0): Promise<string> {
  let text = '';
  for await (const { record } of log.read(from)) text += record.data.toString();
  return text;
}

test('offsets count each stream of one run, and a new run starts at nothing', () =>
  inFolder(async (path) => {
    const log = await ProcessLog.open(path);
    assert.equal(await append(log, 1, 1, 'abc'), 3);
    assert.equal(await append(log, 1, 2, 'de'), 2);
    assert.equal(await append(log, 1, 1, 'f'), 4);
    assert.deepEqual(log.offsetsOf(1), { run: 1, stdout: 4, stderr: 2 });
    assert.deepEqual(log.offsetsOf(2), { run: 2, stdout: 0, stderr: 0 });
    await log.close();
    const again = await ProcessLog.open(path);
    assert.deepEqual(again.offsetsOf(1), { run: 1, stdout: 4, stderr: 2 });
    assert.equal(await textOf(again), 'abcdef');
    await again.close();
  }));

test('a record torn at any byte is cut off, and what came before it stays', () =>
  inFolder(async (path) => {
    const log = await ProcessLog.open(path);
    await append(log, 1, 1, 'first');
    const whole = log.size;
    await append(log, 1, 1, 'second');
    const end = log.size;
    await log.close();
    const bytes = await readFile(path);
    for (let cut = whole; cut < end; cut += 1) {
      await writeFile(path, bytes.subarray(0, cut));
      const opened = await ProcessLog.open(path);
      assert.equal(opened.size, whole, `cut at ${cut}`);
      assert.deepEqual(opened.offsetsOf(1), { run: 1, stdout: 5, stderr: 0 });
      await opened.close();
    }
  }));

test('garbage after the last record is cut off', () =>
  inFolder(async (path) => {
    const log = await ProcessLog.open(path);
    await append(log, 1, 1, 'kept');
    const whole = log.size;
    await log.close();
    await appendFile(path, Buffer.alloc(100, 0xff));
    const opened = await ProcessLog.open(path);
    assert.equal(opened.size, whole);
    assert.equal(await textOf(opened), 'kept');
    await opened.close();
  }));

test('damage in the middle is reported with its place, not passed over', () =>
  inFolder(async (path) => {
    const log = await ProcessLog.open(path);
    await append(log, 1, 1, 'one');
    await append(log, 1, 1, 'two');
    const { size } = log;
    await log.close();
    const bytes = await readFile(path);
    bytes.fill(0, 0, 4);
    await writeFile(path, bytes);
    await truncate(path, size);
    const opened = await ProcessLog.open(path);
    await assert.rejects(textOf(opened), /no whole record at byte 0/);
    await opened.close();
  }));

test('a follower sees what was there, what comes, and the end', () =>
  inFolder(async (path) => {
    const log = await ProcessLog.open(path);
    await append(log, 1, 1, 'old ');
    const seen: string[] = [];
    const following = (async () => {
      for await (const record of followLog(log, { position: 0 }, new AbortController().signal))
        seen.push(record.data.toString());
    })();
    await append(log, 1, 2, 'new ');
    await append(log, 1, 1, 'last');
    log.markEnded();
    await following;
    assert.equal(seen.join(''), 'old new last');
    await log.close();
  }));

test('a slow follower loses nothing of a flood and keeps little in memory', () =>
  inFolder(async (path) => {
    const log = await ProcessLog.open(path);
    const chunk = 'x'.repeat(60_000);
    let received = 0;
    const following = (async () => {
      for await (const record of followLog(log, { position: 0 }, new AbortController().signal)) {
        received += record.data.length;
        if (received < 300_000) await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    for (let index = 0; index < 50; index += 1) await append(log, 1, 1, chunk);
    log.markEnded();
    await following;
    assert.equal(received, 50 * 60_000);
    await log.close();
  }));

test('a follower leaves when its client does', () =>
  inFolder(async (path) => {
    const log = await ProcessLog.open(path);
    const left = new AbortController();
    const following = (async () => {
      for await (const record of followLog(log, { position: 0 }, left.signal))
        assert.fail(`unexpected ${record.data.toString()}`);
    })();
    left.abort();
    await following;
    await log.close();
  }));

test('the tail begins early enough to hold the lines asked for', () =>
  inFolder(async (path) => {
    const log = await ProcessLog.open(path);
    for (let index = 0; index < 100; index += 1) await append(log, 1, 1, `line ${index}\n`);
    const position = await log.positionOfTail(3, (stream) => stream === 1);
    const text = await textOf(log, position);
    assert.ok(text.endsWith('line 97\nline 98\nline 99\n'), text);
    assert.ok(text.length < 100, 'and not much earlier');
    assert.equal(await log.positionOfTail(3, (stream) => stream === 2), 0);
    await log.close();
  }));
