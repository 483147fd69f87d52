/** `berth cost rate` and `close`: what goes into a ledger. */
import { openLedger, rate, timeText } from '#metering';
import { nowMs } from '#platform';
import { type Options, usageError } from '../../command-line.ts';
import type { VerbContext } from '../../verb.ts';
import { closeByDaemon, rateByDaemon } from './daemon.ts';
import { cardOf, isOfDaemon, monthOfOptions, monthsOf, thisMonth, usageFactsOf, wanted } from './input.ts';

export async function rateMonths(context: VerbContext, options: Options): Promise<number> {
  if (isOfDaemon(options)) return rateByDaemon(context, options);
  const { out, note } = context;
  const [card, facts] = [await cardOf(context, options), await usageFactsOf(context, options)];
  const ledger = await openLedger(wanted(options, 'ledger'));
  try {
    for (const month of monthsOf(options, facts)) {
      const rating = rate(card, month, facts);
      // A wrong file would take back a whole month.
      if (rating.records.length === 0)
        throw usageError(`${wanted(options, 'usage')} knows of no VM in ${month}`, 'nothing was recorded for it');
      for (const one of rating.unpriced) note(`berth: ${month}: no price for ${one.resource} (${one.vms} VMs)`);
      const atMs = nowMs();
      const outcome = await ledger.record({
        period: month,
        scope: options.text('scope') ?? 'all',
        charges: rating.charges,
        bookInto: options.text('book-into') ?? thisMonth(atMs),
        atMs,
      });
      const { added, replaced, removed, corrections } = outcome;
      const text = `${month}: ${added} added, ${replaced} replaced, ${removed} removed, ${corrections} corrections\n`;
      await out(options.flag('json') ? `${JSON.stringify({ month, ...outcome })}\n` : text);
    }
    return 0;
  } finally {
    await ledger.disconnect();
  }
}

export async function closeMonth(context: VerbContext, options: Options): Promise<number> {
  if (isOfDaemon(options)) return closeByDaemon(context, options);
  const { out } = context;
  const month = monthOfOptions(options);
  const ledger = await openLedger(wanted(options, 'ledger'));
  try {
    const { closedAtMs = 0 } = await ledger.close(month, nowMs());
    await out(`${month} closed at ${timeText(closedAtMs)}\n`);
    return 0;
  } finally {
    await ledger.disconnect();
  }
}
