/** What the flags of `berth cost` name: cards, usage, ledgers, months, filters. */
import {
  consumptionFrom,
  DIMENSIONS,
  type Dimension,
  type FocusCharge,
  isMonthName,
  loadRateCard,
  monthOf,
  monthSpan,
  monthsBetween,
  openLedger,
  openSampleStore,
  type RateCard,
  rate,
  readCardText,
  readCharge,
  readUsageFile,
  type Selector,
  selected,
  type UsageFacts,
  UsageReader,
} from '#metering';
import { type Options, usageError } from '../../command-line.ts';
import { eachUsageFact } from '../../fleet-usage.ts';
import type { VerbContext } from '../../verb.ts';

/** @throws usage (invalid) */
export function wanted(options: Options, name: string): string {
  const value = options.text(name);
  if (value === undefined) throw usageError(`--${name} is missing`, 'see "berth cost --help"');
  return value;
}

const BASE = '/berth/v1/cost';

/** Nothing was said about where from: the daemon's own card and ledger are meant. */
export function isOfDaemon(options: Options): boolean {
  return ['card', 'usage', 'samples', 'ledger'].every((name) => options.text(name) === undefined);
}

/** Of the file; of the daemon where nothing else is said. */
export async function cardOf(context: VerbContext, options: Options): Promise<RateCard> {
  if (!isOfDaemon(options)) return await cardIn(wanted(options, 'card'));
  const { card } = await context.engine.call<{ card: string }>('GET', `${BASE}/card`);
  return loadRateCard(card, 'the daemon’s rate card');
}

export async function cardIn(path: string): Promise<RateCard> {
  return loadRateCard(await readCardText(path), path);
}

/** Of the file or the fleet; counters from the sample store instead when there is one. */
export async function usageFactsOf(
  context: Pick<VerbContext, 'engine' | 'note'>,
  options: Options,
): Promise<UsageFacts> {
  const path = options.text('usage');
  const facts = path === undefined ? await fleetFacts(context, options) : await readUsageFile(path);
  const folder = options.text('samples');
  if (folder === undefined) return facts;
  const store = await openSampleStore(folder);
  try {
    const months = monthsOf(options, facts).map(monthSpan);
    return { ...facts, samples: [], gaps: [], consumed: months.flatMap((month) => consumptionFrom(store, month)) };
  } finally {
    await store.close();
  }
}

/** What the daemon's fleet has seen, as far as its sources have confirmed it. */
async function fleetFacts(context: Pick<VerbContext, 'engine' | 'note'>, options: Options): Promise<UsageFacts> {
  const reader = new UsageReader("the fleet's history");
  reader.add(JSON.stringify({ berth: 'usage', version: 1 }));
  const spans = options.list('month').filter(isMonthName).map(monthSpan);
  const span =
    spans.length === 0
      ? {}
      : {
          fromMs: Math.min(...spans.map(({ startMs }) => startMs)),
          toMs: Math.max(...spans.map(({ endMs }) => endMs)),
        };
  await eachUsageFact(context, span, async (fact) => reader.add(JSON.stringify(fact)));
  return reader.finish();
}

/** The months that were asked for, in order; otherwise those the facts touch. @throws usage (invalid) */
export function monthsOf(options: Options, facts?: UsageFacts): readonly string[] {
  const asked = options.list('month');
  const odd = asked.find((month) => !isMonthName(month));
  if (odd !== undefined) throw usageError(`invalid argument "${odd}" for --month: a month such as 2026-11 is wanted`);
  if (asked.length > 0) return [...new Set(asked)].sort();
  if (facts === undefined) throw usageError('--month is missing', 'see "berth cost --help"');
  return [...new Set(facts.intervals.flatMap((one) => monthsBetween(one.startMs, one.endMs)))].sort();
}

/** The one month that was asked for. @throws usage (invalid) */
export function monthOfOptions(options: Options): string {
  const months = monthsOf(options);
  const [month] = months;
  if (month === undefined || months.length > 1) throw usageError('one --month is wanted');
  return month;
}

/** @throws usage (invalid) */
export function dimensionsOf(options: Options): readonly Dimension[] {
  const words = (options.text('by') ?? 'project').split(',').map((word) => word.trim());
  return words.map((word) => {
    const found = DIMENSIONS.find((dimension) => dimension === word);
    if (found === undefined) throw usageError(`cannot add up by "${word}"`, `there are ${DIMENSIONS.join(', ')}`);
    return found;
  });
}

/** A time such as 2026-11-20 or 2026-11-20T09:00:00Z. @throws usage (invalid) */
export function timeOf(options: Options): number | undefined {
  const text = options.text('at');
  if (text === undefined) return undefined;
  const ms = /^\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?$/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(ms))
    throw usageError(`invalid argument "${text}" for --at: a UTC time such as 2026-11-20 is wanted`);
  return ms;
}

/** The end of what the facts know. */
export function lastKnownMs(facts: UsageFacts): number {
  return [...facts.intervals, ...facts.hosts].reduce((last, one) => Math.max(last, one.endMs), 0);
}

export function filterOf(options: Options): Selector {
  const names: Record<string, readonly string[]> = {};
  for (const [flag, name] of [
    ['vm', 'name'],
    ['project', 'project'],
    ['owner', 'owner'],
    ['source', 'source'],
    ['host', 'host'],
  ] as const) {
    const values = options.list(flag);
    if (values.length > 0) names[name] = values;
  }
  return { names, tags: {} };
}

export interface ChargeInput {
  readonly charges: readonly FocusCharge[];
  readonly currency: string;
  readonly months: readonly string[];
  /** What the reader should know: usage without a price, counters that were not read. */
  readonly notes: readonly string[];
}

/** Charges from a ledger, or rated now from a card and usage; filtered. @throws usage (invalid) */
export async function chargesOf(context: VerbContext, options: Options): Promise<ChargeInput> {
  const ledger = options.text('ledger');
  const found = isOfDaemon(options)
    ? await bookedByDaemon(context, options)
    : ledger === undefined
      ? await ratedNow(context, options)
      : await booked(options, ledger);
  return { ...found, charges: selected(found.charges, filterOf(options)) };
}

async function ratedNow(context: VerbContext, options: Options): Promise<ChargeInput> {
  const [card, facts] = [await cardOf(context, options), await usageFactsOf(context, options)];
  const months = monthsOf(options, facts);
  const ratings = months.map((month) => rate(card, month, facts));
  const notes = ratings.flatMap(({ period, unpriced, gaps, unknownVms }) => [
    ...(unknownVms.length === 0
      ? []
      : [`${period}: counters of VMs that are in no interval: ${unknownVms.slice(0, 5).join(', ')}`]),
    ...unpriced.map((one) => `${period}: no price for ${one.resource} (${one.vms} VM${one.vms === 1 ? '' : 's'})`),
    ...(gaps.length === 0 ? [] : [`${period}: ${gaps.length} gap${gaps.length === 1 ? '' : 's'} in counters`]),
  ]);
  const charges = ratings.flatMap((one) =>
    one.charges.map((charge) => ({ charge, isCorrection: false, bookedInto: one.period, invoiceId: undefined })),
  );
  return { charges, currency: card.currency, months, notes };
}

async function bookedByDaemon({ engine }: VerbContext, options: Options): Promise<ChargeInput> {
  const asked = options.list('month').length > 0 ? monthsOf(options) : [];
  const found = await engine.call<{
    months: string[];
    currency: string;
    closed: string[];
    charges: { month: string; isCorrection: boolean; charge: string }[];
  }>('GET', `${BASE}/charges`, { query: { month: asked } });
  const charges = found.charges.map(({ month, isCorrection, charge }) => ({
    charge: readCharge(charge),
    isCorrection,
    bookedInto: month,
    invoiceId: found.closed.includes(month) ? invoiceOf(options, month) : undefined,
  }));
  return { charges, currency: found.currency, months: found.months, notes: [] };
}

function invoiceOf(options: Options, month: string): string {
  return `${options.text('account') ?? 'default'}-${month}`;
}

async function booked(options: Options, place: string): Promise<ChargeInput> {
  const months = monthsOf(options);
  const ledger = await openLedger(place);
  try {
    const charges: FocusCharge[] = [];
    for (const month of months) {
      const invoiceId = (await ledger.period(month)).state === 'closed' ? invoiceOf(options, month) : undefined;
      for (const { charge, kind } of await ledger.entries(month))
        charges.push({ charge, isCorrection: kind === 'correction', bookedInto: month, invoiceId });
    }
    const currencies = [...new Set(charges.map(({ charge }) => charge.currency))];
    if (currencies.length > 1)
      throw usageError(`these months are charged in ${currencies.join(' and ')}, which cannot be added up`);
    return { charges, currency: currencies[0] ?? '', months, notes: [] };
  } finally {
    await ledger.disconnect();
  }
}

export function thisMonth(nowMs: number): string {
  return monthOf(nowMs);
}
