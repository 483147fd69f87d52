/**
 * Samples of counters on disk: durable once `append` has answered, and added up as they come (decisions/0013).
 *
 * A folder holds `samples` (blocks), `rollups` (frames) and `series` (one name a line). Blocks are the truth: a torn end is
 * cut off, rollups that are missing or damaged are made again from them. One process has it open.
 */
import { BerthError, errnoOf } from '#base';
import { files } from '#platform';
import { type FolderLock, lockFolder } from '#store';
import { HOUR_MS } from '../usage/time-cuts.ts';
import { readFrames, writeFrame } from './rollup-frame.ts';
import { IncreaseTotal, Rollups } from './rollups.ts';
import { HEADER_BYTES, readBlock, type SampleColumns, storedBytes, writeBlock } from './sample-block.ts';

export interface SampleStore {
  /** The number of a series (a VM's counter), new or known. Durable with the next `append`. @throws series.name (invalid) */
  series(name: string): number;
  seriesNames(): readonly string[];
  /** Durable when it returns. Samples that are not newer than the last of their series count nothing. */
  append(samples: SampleColumns): Promise<void>;
  /** What each series rose in each hour of `[startMs, endMs)`, in no order; hours in which it did not are left out. */
  hours(span: { readonly startMs: number; readonly endMs: number }): Generator<HourIncrease>;
  /** The increase of every series in `[startMs, endMs)`, whole hours, by its number. */
  increases(span: { readonly startMs: number; readonly endMs: number }): readonly bigint[];
  /** Samples that were there already. */
  readonly repeated: number;
  close(): Promise<void>;
}

export interface HourIncrease {
  readonly series: number;
  readonly startMs: number;
  readonly amount: bigint;
}

/** Samples between two rollup frames: what has to be read again after a crash, 2 s of work. */
const FRAME_SAMPLES = 8_000_000;
const READ_BYTES = 4 * 1024 * 1024;

/** @throws samples.damaged (data_loss), store.locked (conflict) */
export async function openSampleStore(folder: string): Promise<SampleStore> {
  await files.mkdir(folder, { recursive: true, mode: 0o700 });
  const lock = lockFolder(folder);
  try {
    return await openLocked(folder, lock);
  } catch (error) {
    lock.release();
    throw error;
  }
}

async function openLocked(folder: string, lock: FolderLock): Promise<SampleStore> {
  const names = ((await files.readTextIfExists(`${folder}/series`)) ?? '').split('\n');
  // What follows the last line end was torn in writing.
  names.pop();
  const numbers = new Map(names.map((name, index) => [name, index]));
  const rollups = new Rollups();
  /** Of all frames: hour → increases. */
  const summed = new Map<number, Float64Array>();
  const { frames, bytes: wholeFrames } = readFrames(await bytesOf(`${folder}/rollups`));
  for (const frame of frames) for (const { hour, increase } of frame.cells) addTo(summed, hour, increase);
  const last = frames.at(-1);
  if (last !== undefined) rollups.restore(last.readings);
  const samplesFile = await files.open(`${folder}/samples`, 'a+', 0o600);
  let position: number;
  try {
    position = await replay(samplesFile, last?.coveredBytes ?? 0, (columns) => rollups.add(columns));
  } catch (error) {
    await samplesFile.close();
    throw error;
  }
  const rollupFile = await files.open(`${folder}/rollups`, 'a+', 0o600);
  const seriesFile = await files.open(`${folder}/series`, 'a+', 0o600);
  await samplesFile.truncate(position);
  await rollupFile.truncate(wholeFrames);
  await seriesFile.truncate(Buffer.byteLength(names.map((name) => `${name}\n`).join('')));
  await files.syncFolder(folder);
  rollups.repeated = 0;
  let [unsavedNames, sinceFrame]: [string, number] = ['', 0];
  let turn: Promise<void> = Promise.resolve();

  let frameEnd = wholeFrames;
  /** What the frames come to for the span that was last asked for: the next question adds only what came since. */
  let framesTotal: { readonly from: number; readonly to: number; readonly total: IncreaseTotal } | undefined;
  const writeRollups = async (): Promise<void> => {
    const cells = rollups.cells();
    if (cells.length === 0) return;
    const frame = writeFrame({ coveredBytes: position, readings: rollups.readings(), cells });
    try {
      await rollupFile.appendFile(frame);
      await rollupFile.datasync();
    } catch (error) {
      await rollupFile.truncate(frameEnd);
      throw fullOr(error, folder);
    }
    frameEnd += frame.length;
    rollups.clear();
    framesTotal = undefined;
    for (const { hour, increase } of cells) addTo(summed, hour, increase);
    sinceFrame = 0;
  };
  const appendNow = async (samples: SampleColumns): Promise<void> => {
    if (samples.series.some((one) => one >= names.length))
      throw new BerthError('bug', 'samples.series', 'samples of a series that has no name');
    if (unsavedNames !== '') {
      await seriesFile.appendFile(unsavedNames);
      await seriesFile.datasync();
      unsavedNames = '';
    }
    const block = writeBlock(samples);
    try {
      await samplesFile.appendFile(block);
      await samplesFile.datasync();
    } catch (error) {
      // Half a block must not stay before the next one.
      await samplesFile.truncate(position);
      throw fullOr(error, folder);
    }
    position += block.length;
    rollups.add(samples);
    sinceFrame += samples.series.length;
    if (sinceFrame >= FRAME_SAMPLES) await writeRollups();
  };
  return {
    series: (name) => {
      const known = numbers.get(name);
      if (known !== undefined) return known;
      if (name === '' || /[\n\r]/.test(name) || name.length > 1024)
        throw new BerthError('invalid', 'series.name', `${JSON.stringify(name.slice(0, 60))} is no name of a series`);
      unsavedNames += `${name}\n`;
      numbers.set(name, names.length);
      return names.push(name) - 1;
    },
    seriesNames: () => names,
    append: (samples) => {
      // One after the other, whatever the callers do; a failed one does not stop those after it.
      const mine = turn.then(() => appendNow(samples));
      turn = mine.catch(() => {});
      return mine;
    },
    increases: ({ startMs, endMs }) => {
      const [from, to] = [Math.floor(startMs / HOUR_MS), Math.ceil(endMs / HOUR_MS)];
      if (framesTotal?.from !== from || framesTotal.to !== to) {
        framesTotal = { from, to, total: new IncreaseTotal() };
        for (const [hour, increase] of summed) if (hour >= from && hour < to) framesTotal.total.add(increase);
      }
      const total = framesTotal.total.copy();
      for (const { hour, increase } of rollups.cells()) if (hour >= from && hour < to) total.add(increase);
      return total.ofSeries(names.length);
    },
    *hours({ startMs, endMs }) {
      const kept = [...summed].map(([hour, increase]) => ({ hour, increase }));
      for (const { hour, increase } of [...kept, ...rollups.cells()]) {
        if (hour < Math.floor(startMs / HOUR_MS) || hour >= Math.ceil(endMs / HOUR_MS)) continue;
        for (const [series, amount] of increase.entries())
          if (amount !== 0) yield { series, startMs: hour * HOUR_MS, amount: BigInt(amount) };
      }
    },
    get repeated() {
      return rollups.repeated;
    },
    close: async () => {
      await turn;
      await writeRollups();
      await Promise.all([samplesFile.close(), rollupFile.close(), seriesFile.close()]);
      lock.release();
    },
  };
}

/**
 * Hands over every whole block from `from` on; gives where they end. A block that was torn in writing is the last thing
 * in the file, or zeros; anything else is damage, and nobody may cut off what comes after it.
 *
 * @throws samples.damaged (data_loss)
 */
async function replay(
  file: files.FileHandle,
  from: number,
  onBlock: (columns: SampleColumns) => void,
): Promise<number> {
  const { size } = await file.stat();
  if (from > size) throw damaged(size);
  let position = from;
  let buffer = Buffer.alloc(0);
  let readTo = from;
  for (;;) {
    const stored = storedBytes(buffer);
    const needed = stored === undefined ? HEADER_BYTES : HEADER_BYTES + stored;
    if (buffer.length < needed) {
      const chunk = Buffer.allocUnsafe(Math.max(READ_BYTES, needed));
      const { bytesRead } = await file.read(chunk, 0, chunk.length, readTo);
      if (bytesRead === 0) return position;
      readTo += bytesRead;
      buffer = Buffer.concat([buffer, chunk.subarray(0, bytesRead)]);
      continue;
    }
    const columns = stored === undefined ? undefined : readBlock(buffer, buffer.subarray(HEADER_BYTES, needed));
    if (columns === undefined) {
      const isTorn = stored === undefined ? buffer.every((byte) => byte === 0) : position + needed >= size;
      if (isTorn) return position;
      throw damaged(position);
    }
    onBlock(columns);
    position += needed;
    buffer = buffer.subarray(needed);
  }
}

function damaged(position: number): BerthError {
  return new BerthError('data_loss', 'samples.damaged', `the samples are damaged at byte ${position}`, {
    facts: { position },
    hint: 'restore the file from a copy; nothing of it was changed',
  });
}

function fullOr(error: unknown, folder: string): unknown {
  if (errnoOf(error) !== 'ENOSPC') return error;
  return new BerthError('exhausted', 'store.full', `no space left on the host for ${folder}`, {
    hint: 'free some space and try again',
    cause: error,
  });
}

function addTo(summed: Map<number, Float64Array>, hour: number, increase: Float64Array): void {
  const before = summed.get(hour);
  if (before === undefined) {
    summed.set(hour, increase);
    return;
  }
  const [large, small] = before.length >= increase.length ? [before, increase] : [increase, before];
  const sum = large.slice();
  for (let index = 0; index < small.length; index += 1) sum[index] = (sum[index] ?? 0) + (small[index] ?? 0);
  summed.set(hour, sum);
}

async function bytesOf(path: string): Promise<Buffer> {
  try {
    return await files.readFile(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return Buffer.alloc(0);
    throw error;
  }
}
