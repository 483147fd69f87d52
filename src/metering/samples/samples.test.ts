import assert from 'node:assert/strict';
import { test } from 'node:test';
import { numbersFrom } from '../random-fixture.ts';
import { HOUR_MS } from '../usage/time-cuts.ts';
import { readFrames, writeFrame } from './rollup-frame.ts';
import { IncreaseTotal, Rollups } from './rollups.ts';
import { HEADER_BYTES, readBlock, type SampleColumns, storedBytes, writeBlock } from './sample-block.ts';

const START = Date.parse('2026-11-01T00:00:00Z');

function columns(rows: readonly (readonly [series: number, minutes: number, value: bigint])[]): SampleColumns {
  return {
    series: Uint32Array.from(rows.map(([series]) => series)),
    atMs: Float64Array.from(rows.map(([, minutes]) => START + minutes * 60_000)),
    value: BigUint64Array.from(rows.map(([, , value]) => value)),
  };
}
const cellsOf = (rollups: Rollups): unknown[] =>
  rollups
    .cells()
    .map(({ hour, increase }) => [hour - START / HOUR_MS, [...increase.subarray(0, 2)]] as const)
    .sort(([a], [b]) => a - b);

test('a block reads back as it was written, extremes included, and a damaged one is known', () => {
  const samples = columns([
    [4_000_000_000, 0, 2n ** 64n - 1n],
    [0, 600_000, 0n],
    [7, 5, 123n],
  ]);
  const block = writeBlock(samples);
  assert.equal(storedBytes(block), block.length - HEADER_BYTES);
  assert.deepEqual(readBlock(block, block.subarray(HEADER_BYTES)), samples);
  const bent = Buffer.from(block);
  bent[block.length - 1] = (bent[block.length - 1] ?? 0) ^ 1;
  assert.equal(readBlock(bent, bent.subarray(HEADER_BYTES)), undefined);
  assert.equal(storedBytes(Buffer.alloc(HEADER_BYTES)), undefined);
  assert.deepEqual(readBlock(writeBlock(columns([])), writeBlock(columns([])).subarray(HEADER_BYTES)), columns([]));
});

test('counters are added up by hour, split at full hours, begun anew after a reset, and never twice', () => {
  const rollups = new Rollups();
  rollups.add(
    columns([
      [0, 50, 100n],
      [1, 50, 5n],
    ]),
  );
  rollups.add(
    columns([
      [0, 65, 200n],
      [1, 55, 9n],
    ]),
  );
  rollups.add(
    columns([
      [0, 65, 200n],
      [1, 55, 9n],
      [0, 60, 150n],
    ]),
  );
  rollups.add(columns([[0, 70, 30n]]));
  assert.deepEqual(cellsOf(rollups), [
    [0, [66, 4]],
    [1, [64, 0]],
  ]);
  assert.equal(rollups.repeated, 3);
});

test('an increase that cannot be is no usage, and what follows it is', () => {
  const rollups = new Rollups();
  rollups.add(
    columns([
      [0, 0, 0n],
      [0, 1, 2n ** 60n],
      [0, 2, 2n ** 60n + 5n],
    ]),
  );
  assert.deepEqual(cellsOf(rollups), [[0, [5, 0]]]);
  assert.equal(rollups.absurd, 1);
});

test('however samples are batched, the sums are those of the last reading minus the first', () => {
  const numbers = numbersFrom(8);
  const rollups = new Rollups();
  const [first, last] = [new Map<number, bigint>(), new Map<number, bigint>()];
  for (let poll = 0; poll < 300; poll += 1) {
    const rows = Array.from({ length: 40 }, (_, series) => {
      const value = (last.get(series) ?? BigInt(numbers.upTo(1e9))) + BigInt(numbers.upTo(1e6));
      if (!first.has(series)) first.set(series, value);
      last.set(series, value);
      return [series, 1 + poll * 7 + numbers.upTo(6), value] as const;
    });
    rollups.add(columns(rows));
  }
  for (const [series, value] of last) {
    const sum = rollups.cells().reduce((total, { increase }) => total + (increase[series] ?? 0), 0);
    assert.equal(BigInt(sum), value - (first.get(series) ?? 0n));
  }
});

test('frames read back, up to the first that is torn or damaged', () => {
  const rollups = new Rollups();
  rollups.add(
    columns([
      [0, 0, 1n],
      [0, 5, 7n],
      [3000, 1, 1n],
    ]),
  );
  const frame = writeFrame({ coveredBytes: 99, readings: rollups.readings(), cells: rollups.cells() });
  const { frames, bytes } = readFrames(Buffer.concat([frame, frame, frame.subarray(0, frame.length - 1)]));
  assert.equal(bytes, 2 * frame.length);
  assert.deepEqual(frames[1]?.readings, rollups.readings());
  assert.equal(frames[1]?.coveredBytes, 99);
  assert.equal(frames[0]?.cells[0]?.increase[0], 6);
});

test('sums beyond 2^53 lose no unit', () => {
  const total = new IncreaseTotal();
  const most = Number.MAX_SAFE_INTEGER;
  for (const amount of [most, most, 1, most]) total.add(Float64Array.of(0, amount));
  assert.deepEqual(total.copy().ofSeries(3), [0n, 3n * BigInt(most) + 1n, 0n]);
});
