/** `berth cost check|report|explain|forecast|compare|budgets`. */
import {
  budgetStates,
  COST_PARTS,
  type Comparison,
  compare,
  deliverAlerts,
  Exact,
  explain,
  explanationText,
  forecast,
  knownAt,
  type RateCard,
  type Report,
  rate,
  reportOf,
  selected,
  spreadsheetLine,
  timeText,
} from '#metering';
import { type Options, usageError } from '../../command-line.ts';
import { FAILED } from '../../exit-codes.ts';
import { renderTable } from '../../tables.ts';
import type { VerbContext } from '../../verb.ts';
import { reportOfDaemon } from './daemon.ts';
import {
  cardIn,
  cardOf,
  chargesOf,
  dimensionsOf,
  filterOf,
  isOfDaemon,
  lastKnownMs,
  monthOfOptions,
  timeOf,
  usageFactsOf,
  wanted,
} from './input.ts';
import { type ReportTexts, reportLines, SHOWN_DECIMALS, titleOf } from './report-text.ts';

export async function checkCard(context: VerbContext, options: Options): Promise<number> {
  const { out } = context;
  const card = await cardOf(context, options);
  const prices = card.versions.map(
    (version) =>
      `  ${version.version}: from ${timeText(version.effective.fromMs)}, ${version.items.length} items, ${version.fixed.length} fixed`,
  );
  await out(`${card.name} is right: ${card.currency}\n${prices.join('\n')}\n`);
  return 0;
}

export async function reportCost(context: VerbContext, options: Options): Promise<number> {
  if (options.flag('explain')) return explainCost(context, options);
  if (isOfDaemon(options)) return reportOfDaemon(context, options);
  const { charges, currency, notes } = await chargesOf(context, options);
  const report = reportOf(charges, { by: dimensionsOf(options), zone: options.text('zone') ?? 'UTC', currency });
  for (const one of notes) context.note(`berth: ${one}`);
  await context.out(reportLines(textsOf(report), options));
  return 0;
}

export async function explainCost(context: VerbContext, options: Options): Promise<number> {
  const { out, note } = context;
  const { charges, currency, notes } = await chargesOf(context, options);
  for (const one of notes) note(`berth: ${one}`);
  const explanation = explain(charges, currency);
  if (options.flag('json')) await out(`${JSON.stringify(explanation)}\n`);
  else if (options.flag('csv')) {
    const cells = explanation.lines.map((line) => [
      line.from,
      line.to,
      line.whose,
      line.price,
      line.basis,
      line.arithmetic,
      line.cost,
    ]);
    await out(
      [['from', 'to', 'whose', 'price', 'basis', 'arithmetic', 'cost'], ...cells].map(spreadsheetLine).join(''),
    );
  } else await out(explanationText(explanation));
  return 0;
}

export async function forecastCost(context: VerbContext, options: Options): Promise<number> {
  const { out } = context;
  const [card, facts, month] = [
    await cardOf(context, options),
    await usageFactsOf(context, options),
    monthOfOptions(options),
  ];
  const atMs = timeOf(options) ?? lastKnownMs(facts);
  const filter = filterOf(options);
  const reported = (charges: readonly Parameters<typeof selected>[0][number]['charge'][]) =>
    selected(
      charges.map((charge) => ({ charge, isCorrection: false })),
      filter,
    );
  const question = { by: dimensionsOf(options), zone: options.text('zone') ?? 'UTC', currency: card.currency };
  const soFar = reportOf(reported(rate(card, month, knownAt(facts, atMs)).charges), question);
  const whole = reportOf(reported(forecast(card, month, { ...facts, atMs }).charges), question);
  const before = new Map(soFar.rows.map((row) => [JSON.stringify(row.names), row.cost]));
  const rows = [...whole.rows, whole.total].map((row) => ({
    names: row.names,
    soFar: row === whole.total ? soFar.total.cost : (before.get(JSON.stringify(row.names)) ?? Exact.zero),
    forecast: row.cost,
  }));
  if (options.flag('json'))
    await out(
      rows
        .map(({ names, soFar: known, forecast: expected }) => {
          const named = Object.fromEntries(question.by.map((dimension, index) => [dimension, names[index]]));
          const figures = { soFar: known.toFixed(SHOWN_DECIMALS), forecast: expected.toFixed(SHOWN_DECIMALS) };
          return `${JSON.stringify({ ...named, ...figures, currency: card.currency, at: timeText(atMs) })}\n`;
        })
        .join(''),
    );
  else {
    const head = [...question.by.map(titleOf), 'SO FAR', `FORECAST ${card.currency}`];
    const cells = rows.map((row) => [
      ...row.names,
      row.soFar.toFixed(card.minorDecimals),
      row.forecast.toFixed(card.minorDecimals),
    ]);
    await out(options.flag('csv') ? [head, ...cells].map(spreadsheetLine).join('') : renderTable([head, ...cells]));
  }
  return 0;
}

export async function compareCards(context: VerbContext, options: Options): Promise<number> {
  const { out, note } = context;
  const [card, other, facts] = [
    await cardOf(context, options),
    await cardIn(wanted(options, 'with')),
    await usageFactsOf(context, options),
  ];
  const [by, ...more] = dimensionsOf(options);
  if (by === undefined || by === 'day' || more.length > 0)
    throw usageError('compare adds up by one of vm, project, …, not by day');
  const rateText = options.text('exchange');
  const exchange = rateText === undefined ? undefined : Exact.parse(rateText);
  if (rateText !== undefined && exchange === undefined)
    throw usageError(`invalid argument "${rateText}" for --exchange: a decimal such as 0.92 is wanted`);
  const result = compare({ period: monthOfOptions(options), by, facts }, card, { card: other, exchange });
  for (const one of [result.first, result.second])
    if (one.unpriced.length > 0) note(`berth: ${one.name} has no price for ${one.unpriced.join(', ')}`);
  await out(comparisonText(result, { options, card, other }));
  return 0;
}

export async function watchBudgets(context: VerbContext, options: Options): Promise<number> {
  const { out, note } = context;
  const [card, facts, month] = [
    await cardOf(context, options),
    await usageFactsOf(context, options),
    monthOfOptions(options),
  ];
  const atMs = timeOf(options) ?? lastKnownMs(facts);
  const { states, due } = budgetStates(card, {
    period: month,
    actual: rate(card, month, knownAt(facts, atMs)).charges,
    forecast: forecast(card, month, { ...facts, atMs }).charges,
  });
  const cells = states.map((state) => [
    state.budget,
    state.amount.toFixed(card.minorDecimals),
    state.actual.toFixed(card.minorDecimals),
    state.forecast.toFixed(card.minorDecimals),
    `${state.actual.over(state.amount).times(Exact.of(100)).toFixed(1)}%`,
  ]);
  const head = ['BUDGET', `AMOUNT ${card.currency}`, 'SPENT', 'FORECAST', 'USED'];
  if (options.flag('json'))
    await out(
      cells
        .map(
          ([budget, amount, spent, expected]) =>
            `${JSON.stringify({ budget, amount, spent, forecast: expected, currency: card.currency })}\n`,
        )
        .join(''),
    );
  else await out(options.flag('csv') ? [head, ...cells].map(spreadsheetLine).join('') : renderTable([head, ...cells]));
  const statePath = options.text('notify');
  if (statePath === undefined) return 0;
  const delivery = await deliverAlerts(due, month, statePath);
  for (const alert of delivery.delivered) note(`berth: told about budget ${alert.state.budget}`);
  for (const { alert, reason } of delivery.failed)
    note(`berth: budget ${alert.state.budget}: nobody could be told: ${reason}`);
  return delivery.failed.length === 0 ? 0 : FAILED;
}

function textsOf(report: Report): ReportTexts {
  const texts = ({ names, parts, cost }: Report['total']) => ({
    names,
    parts: Object.fromEntries(COST_PARTS.map((part) => [part, exactText(parts[part])])),
    cost: exactText(cost),
  });
  return { ...report, rows: report.rows.map(texts), total: texts(report.total) };
}

function comparisonText(
  result: Comparison,
  { options, card, other }: { readonly options: Options; readonly card: RateCard; readonly other: RateCard },
): string {
  const rows = [...result.rows, result.total];
  if (options.flag('json'))
    return rows
      .map(({ name, first, second, difference }) => {
        const figures = {
          first: exactText(first),
          second: exactText(second),
          difference: difference && exactText(difference),
        };
        return `${JSON.stringify({ [result.by]: name, ...figures, currencies: [card.currency, other.currency] })}\n`;
      })
      .join('');
  const head = [
    titleOf(result.by),
    `${card.name} ${card.currency}`,
    `${other.name} ${other.currency}`,
    `DIFFERENCE ${card.currency}`,
  ];
  const cells = rows.map((row) => [
    row.name,
    row.first.toFixed(card.minorDecimals),
    row.second.toFixed(other.minorDecimals),
    row.difference?.toFixed(card.minorDecimals) ?? '-',
  ]);
  return options.flag('csv') ? [head, ...cells].map(spreadsheetLine).join('') : renderTable([head, ...cells]);
}

/** All digits; days cut out of a longer charge may have no last one. */
function exactText(value: Exact): string {
  return value.isDecimal ? value.toString() : value.toFixed(28);
}
