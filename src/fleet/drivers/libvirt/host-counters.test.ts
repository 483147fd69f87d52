import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostSampleOf } from './host-counters.ts';

const SECOND = 1_000_000_000n;
const host = { nativeId: 'h', threads: 4 };
const memory = new Map([
  ['total', 1_000n],
  ['free', 300n],
  ['buffers', 50n],
  ['cached', 150n],
]);
const times = new Map([
  ['kernel', 10n * SECOND],
  ['user', 30n * SECOND],
  ['idle', 350n * SECOND],
  ['iowait', 10n * SECOND],
]);

test('busy is what was neither idle nor waiting, and all of it together says since when; files in memory are not in use', () => {
  assert.deepEqual(hostSampleOf({ times, memory, host, atMs: 1_000_000 }), {
    nativeId: 'h',
    atMs: 1_000_000,
    run: null,
    beganMs: 900_000,
    cpuNanoseconds: 40n * SECOND,
    cpuHoldsVms: true,
    memoryUsedBytes: 500n * 1024n,
  });
});

test('figures that are missing or contradict one another are not known, not nothing', () => {
  const share = hostSampleOf({ times: new Map([['utilization', 7n]]), memory: new Map(), host, atMs: 5 });
  assert.deepEqual([share.cpuNanoseconds, share.beganMs, share.memoryUsedBytes], [null, null, null]);
  const odd = hostSampleOf({
    times,
    memory: new Map([...memory, ['free', 900n]]),
    host: { ...host, threads: null },
    atMs: 5,
  });
  assert.deepEqual([odd.beganMs, odd.memoryUsedBytes], [null, null]);
});
