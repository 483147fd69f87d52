import assert from 'node:assert/strict';
import { test } from 'node:test';
import { retentionFrom } from './retention.ts';

test('consumption is kept 25 months, or as long as the variables say', () => {
  assert.deepEqual(retentionFrom({}), { hoursMonths: 25, gapsMonths: 25 });
  assert.deepEqual(retentionFrom({ BERTH_KEEP_HOURS_MONTHS: '2', BERTH_KEEP_GAPS_MONTHS: 'all' }), {
    hoursMonths: 2,
    gapsMonths: undefined,
  });
});

test('what is no such time keeps the daemon from starting, all problems at once: nothing is let go by a slip', () => {
  for (const wrong of ['0', '1', '-3', '2.5', '25 months', '1201', 'none', '99999'])
    assert.throws(
      () => retentionFrom({ BERTH_KEEP_HOURS_MONTHS: wrong, BERTH_KEEP_GAPS_MONTHS: 'x' }),
      (error: { code: string; message: string }) =>
        error.code === 'daemon.retention' &&
        error.message.includes(`BERTH_KEEP_HOURS_MONTHS is "${wrong}"`) &&
        error.message.includes('BERTH_KEEP_GAPS_MONTHS is "x"'),
    );
});
