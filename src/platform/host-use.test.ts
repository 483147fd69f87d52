import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostUseOf } from './host-use.ts';

test('time of processors that was not idle is user, nice, system and interrupts; guests are in user, waiting is idle', () => {
  const stat = 'cpu  1000 20 300 50000 4000 5 6 70 900 10\ncpu0 500 10 150 25000 2000 3 3 35 450 5\nintr 12345\n';
  const memory = 'MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    9000 kB\nCached: 8000 kB\n';
  assert.deepEqual(hostUseOf({ stat, memory, uptime: '123.45 200.00\n', bootId: 'b0-07\n' }), {
    bootId: 'b0-07',
    upMs: 123_450,
    cpuNanoseconds: 1_331n * 10_000_000n,
    memoryUsedBytes: 7_000n * 1024n,
  });
});
