/** The sample store on real disks: killed, torn, damaged, full. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdtemp, open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openSampleStore } from '#metering';
import { POLL_MS, pollOf, START_MS, WRITER_SERIES } from '../harness/sample-writer.ts';

const WRITER = new URL('../harness/sample-writer.ts', import.meta.url).pathname;
const MONTH = { startMs: START_MS, endMs: Date.parse('2026-12-01T00:00:00Z') };
let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'berth-samples-'));
});
after(() => rm(folder, { recursive: true, force: true }));

const newFolder = (): Promise<string> => mkdtemp(join(folder, 'store-'));

/** A store with so many polls, closed. */
async function filled(place: string, polls: number): Promise<void> {
  const store = await openSampleStore(place);
  const numbers = Array.from({ length: WRITER_SERIES }, (_, index) => store.series(`vm-${index}`));
  for (let poll = 0; poll < polls; poll += 1) await store.append(pollOf(poll, numbers));
  await store.close();
}

async function increasesOf(place: string): Promise<readonly bigint[]> {
  const store = await openSampleStore(place);
  try {
    return store.increases(MONTH);
  } finally {
    await store.close();
  }
}
const expected = (lastPoll: number): bigint[] =>
  Array.from({ length: WRITER_SERIES }, (_, index) => BigInt(lastPoll) * BigInt(index + 1));

test('killed at any moment: what was answered is there, once, also when it is sent again', async () => {
  const place = await newFolder();
  let next = 0;
  for (let round = 0; round < 8; round += 1) {
    // Sends again what may have been lost, as a collector does.
    const child = spawn(process.execPath, [WRITER, place, String(Math.max(0, next - 2))], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = once(child, 'exit');
    let [text, wanted] = ['', 3 + round * 17];
    for await (const data of child.stdout) {
      text += String(data);
      wanted -= 1;
      if (wanted === 0) child.kill('SIGKILL');
    }
    await exited;
    const durable = Number(text.trim().split('\n').at(-1));
    const store = await openSampleStore(place);
    const found = Number(store.increases(MONTH)[0]);
    await store.close();
    assert.ok(found >= durable, `poll ${durable} was answered, ${found} is there`);
    assert.ok(found <= durable + 1);
    assert.deepEqual(await increasesOf(place), expected(found));
    next = found + 1;
  }
});

test('without its rollups, or with damaged ones, the store adds the samples up again', async () => {
  const place = await newFolder();
  await filled(place, 400);
  const sums = await increasesOf(place);
  assert.deepEqual(sums, expected(399));
  const hours = Math.ceil((400 * POLL_MS) / 3_600_000);
  assert.ok(hours >= 2);
  await rm(join(place, 'rollups'));
  assert.deepEqual(await increasesOf(place), sums);
  const bytes = await readFile(join(place, 'rollups'));
  bytes[100] = (bytes[100] ?? 0) ^ 255;
  await writeFile(join(place, 'rollups'), bytes);
  assert.deepEqual(await increasesOf(place), sums);
});

test('a torn end is cut off and writing goes on; damage in the middle is refused and nothing is cut', async () => {
  const place = await newFolder();
  await filled(place, 50);
  const path = join(place, 'samples');
  await rm(join(place, 'rollups'));
  const whole = (await stat(path)).size;
  await truncate(path, whole - 5);
  assert.deepEqual(await increasesOf(place), expected(48));
  await appendFile(path, Buffer.alloc(4096));
  assert.deepEqual(await increasesOf(place), expected(48));
  const store = await openSampleStore(place);
  const numbers = Array.from({ length: WRITER_SERIES }, (_, index) => store.series(`vm-${index}`));
  await store.append(pollOf(49, numbers));
  await store.close();
  assert.deepEqual(await increasesOf(place), expected(49));
  await rm(join(place, 'rollups'));
  const file = await open(path, 'r+');
  await file.write(Buffer.from([255, 255, 255]), 0, 3, Math.floor(whole / 2));
  await file.close();
  const before = (await stat(path)).size;
  await assert.rejects(openSampleStore(place), { kind: 'data_loss', code: 'samples.damaged' });
  assert.equal((await stat(path)).size, before);
});

test('a full disk refuses the samples, and goes on when there is room', async () => {
  const small = await newFolder();
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'berth-test', small]);
  try {
    const store = await openSampleStore(small);
    const numbers = Array.from({ length: WRITER_SERIES }, (_, index) => store.series(`vm-${index}`));
    let poll = 0;
    const fill = async (): Promise<void> => {
      for (; poll < 5000; poll += 1) await store.append(pollOf(poll, numbers));
    };
    await assert.rejects(fill(), { kind: 'exhausted', code: 'store.full' });
    execFileSync('mount', ['-o', 'remount,size=100m', small]);
    await store.append(pollOf(poll, numbers));
    await store.close();
    assert.deepEqual(await increasesOf(small), expected(poll));
  } finally {
    execFileSync('umount', [small]);
  }
});

test('one process has a store open', async () => {
  const place = await newFolder();
  const store = await openSampleStore(place);
  await assert.rejects(openSampleStore(place), { kind: 'conflict', code: 'store.locked' });
  await store.close();
  await (await openSampleStore(place)).close();
});

test('names of series are kept, and odd ones refused', async () => {
  const place = await newFolder();
  const store = await openSampleStore(place);
  assert.throws(() => store.series('a\nb'), { code: 'series.name' });
  assert.equal(store.series('vm zürich/networkOutBytes'), 0);
  await store.append({ series: Uint32Array.of(0), atMs: Float64Array.of(START_MS), value: BigUint64Array.of(1n) });
  await assert.rejects(
    store.append({ series: Uint32Array.of(9), atMs: Float64Array.of(START_MS), value: BigUint64Array.of(1n) }),
    { code: 'samples.series' },
  );
  await store.close();
  const again = await openSampleStore(place);
  assert.deepEqual(again.seriesNames(), ['vm zürich/networkOutBytes']);
  assert.equal(again.repeated, 0);
  await again.close();
});
