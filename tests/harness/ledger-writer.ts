/**
 * A process that writes into a ledger, to be killed: rates October, closes it, and rates it again with late facts.
 * Usage: ledger-writer.ts PATH|URL. Prints "opened", then "done".
 */
import { openLedger } from '#metering';
import { chargeOf } from '../../src/metering/ledger/charge-fixture.ts';

/** Enough rows that the writing takes long enough to be killed in. */
export const WRITER_ROWS = 3000;

export function chargesOf(round: 'first' | 'late') {
  return Array.from({ length: WRITER_ROWS }, (_, index) =>
    chargeOf(`vm-${index}`, round === 'late' && index % 3 === 0 ? '2' : '1'),
  );
}

const place = process.argv[2];
if (place !== undefined && process.argv[1]?.endsWith('ledger-writer.ts') === true) {
  const ledger = await openLedger(place);
  process.stdout.write('opened\n');
  const recording = { period: '2026-10', scope: 'all', bookInto: '2026-11', atMs: 1 };
  if ((await ledger.period('2026-10')).state === 'open') {
    await ledger.record({ ...recording, charges: chargesOf('first') });
    await ledger.close('2026-10', 1);
  }
  await ledger.record({ ...recording, charges: chargesOf('late') });
  await ledger.disconnect();
  process.stdout.write('done\n');
}
