/** `berth cost html`: a month as one file a manager can open. */
import { monthPage, rate, selected } from '#metering';
import { files, nowMs } from '#platform';
import type { Options } from '../../command-line.ts';
import type { VerbContext } from '../../verb.ts';
import { pageOfDaemon } from './daemon.ts';
import { cardOf, filterOf, isOfDaemon, monthOfOptions, usageFactsOf, wanted } from './input.ts';

export async function writePage(context: VerbContext, options: Options): Promise<number> {
  if (isOfDaemon(options)) return pageOfDaemon(context, options);
  const { out } = context;
  const [card, facts, period] = [
    await cardOf(context, options),
    await usageFactsOf(context, options),
    monthOfOptions(options),
  ];
  const path = wanted(options, 'out');
  const rating = rate(card, period, facts);
  const charges = rating.charges.map((charge) => ({ charge, isCorrection: false }));
  const html = monthPage({
    period,
    zone: options.text('zone') ?? 'UTC',
    currency: card.currency,
    minorDecimals: card.minorDecimals,
    charges: selected(charges, filterOf(options)),
    hosts: rating.hosts,
    intervals: facts.intervals,
    notes: rating.unpriced.map((one) => `There is no price for ${one.resource}; ${one.vms} VMs used it.`),
    madeAtMs: nowMs(),
  });
  await files.writeFileAtomic(path, html, 0o644);
  await out(`${path}\n`);
  return 0;
}
