import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cpuOf, hostCpuOf, hostMemoryOf } from './vm-usage.ts';

const figures = (rss: number, anonymous: number, dirty: number): string =>
  `Size:             262144 kB\nRss:              ${rss} kB\nPss:              1 kB\nPrivate_Clean:    7 kB\nPrivate_Dirty:    ${dirty} kB\nAnonymous:        ${anonymous} kB\nVmFlags: rd wr mr\n`;
const LIBRARY = `7f0000000000-7f0000100000 r-xp 00000000 08:01 12    /usr/lib/libc.so.6\n${figures(500, 0, 0)}`;
const HEAP = `55d000000000-55d000200000 rw-p 00000000 00:00 0                          [heap]\n${figures(2_000, 2_000, 2_000)}`;
const LIBRARY_DATA = `7f0000100000-7f0000102000 rw-p 00100000 08:01 12    /usr/lib/libc.so.6\n${figures(8, 8, 8)}`;
const guest = (flags: string, rest: string): string =>
  `7f1000000000-7f1010000000 ${flags} 00000000 00:01 99    /memfd:berth-template x (deleted)\n${rest}`;

test('a clone shares with its template what it has not written, whoever else maps it', () => {
  // Private_Dirty counts the template's pages too while only one clone maps them.
  const memory = hostMemoryOf(LIBRARY + HEAP + LIBRARY_DATA + guest('rw-p', figures(30_000, 12_000, 30_000)));
  assert.deepEqual(memory, {
    residentBytes: (500 + 2_000 + 8 + 30_000) * 1024,
    uniqueBytes: (2_000 + 8 + 12_000) * 1024,
    templateSharedBytes: 18_000 * 1024,
  });
});

test('a machine that booted shares nothing', () => {
  const memory = hostMemoryOf(HEAP + guest('rw-s', figures(40_000, 0, 40_000)) + LIBRARY);
  assert.deepEqual([memory.uniqueBytes, memory.templateSharedBytes], [42_000 * 1024, 0]);
});

test('processor time is in nanoseconds; a name may hold brackets and blanks', () => {
  const stat = `7 (a) b (c) S 1 ${'0 '.repeat(9)}250 30 0 0 20 0 4 0 999`;
  assert.deepEqual(cpuOf(stat), { userNs: 2_500_000_000, systemNs: 300_000_000 });
  assert.equal(hostCpuOf('cpu  1 2 3 4 5 6 7 8 100 100\ncpu0 1 1 1\n'), 360_000_000);
});
