import assert from 'node:assert/strict';
import { test } from 'node:test';
import { memorySharesOf, readMemoryShares, readTicks, ticksOf } from './proc-figures.ts';

test('shares of memory are read in bytes, shared clean and dirty as one', () => {
  const text = [
    '55d0-7ffd ---p 00000000 00:00 0 [rollup]',
    'Rss:              1000 kB',
    'Pss:               600 kB',
    'Pss_Dirty:         500 kB',
    'Shared_Clean:      300 kB',
    'Shared_Dirty:      100 kB',
    'Private_Clean:      50 kB',
    'Private_Dirty:     550 kB',
  ].join('\n');
  assert.deepEqual(readMemoryShares(text), {
    pssBytes: 600 * 1024,
    privateDirtyBytes: 550 * 1024,
    sharedBytes: 400 * 1024,
  });
});

test('ticks are read behind a name that holds brackets and blanks', () => {
  assert.equal(readTicks('7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 21 9 0 0 20 0 1 0 123'), 30);
});

test('this very process has memory and time', async () => {
  const { pssBytes, privateDirtyBytes } = await memorySharesOf(process.pid);
  assert.ok(pssBytes > 1e6 && privateDirtyBytes > 1e6 && privateDirtyBytes <= pssBytes * 1.01);
  assert.ok((await ticksOf(process.pid)) > 0);
});
