/** What the daemon reckons by itself: its rate card, its ledger, and what that holds. */
import { Exact, readCardText, timeText } from '#metering';
import { files } from '#platform';
import { type Options, usageError } from '../../command-line.ts';
import { readText } from '../../engine-client.ts';
import { renderTable } from '../../tables.ts';
import type { VerbContext } from '../../verb.ts';
import { dimensionsOf, monthOfOptions, wanted } from './input.ts';
import { type ReportTexts, reportLines } from './report-text.ts';

const BASE = '/berth/v1/cost';

export async function manageCard(context: VerbContext, _options: Options, words: readonly string[]): Promise<number> {
  const { engine, out } = context;
  const [action = 'show', path] = words;
  if (action === 'set' && path !== undefined) {
    const json = { card: await readCardText(path) };
    const card = await engine.call<{ name: string; currency: string }>('POST', `${BASE}/card`, { json });
    await out(`${card.name} (${card.currency}) is in force\n`);
  } else if (action === 'show' && path === undefined)
    await out((await engine.call<{ card: string }>('GET', `${BASE}/card`)).card);
  else if (action === 'rm' && path === undefined) await engine.call('DELETE', `${BASE}/card`);
  else throw usageError('berth cost card takes set FILE, show or rm', 'see "berth cost --help"');
  return 0;
}

/** The address may hold a password: it comes from a file, never from the command line. */
export async function manageLedger(context: VerbContext, _options: Options, words: readonly string[]): Promise<number> {
  const [action, path] = words;
  if (action === 'set' && path !== undefined)
    await context.engine.call('POST', `${BASE}/ledger`, { json: { address: (await readCardText(path)).trim() } });
  else if (action === 'rm' && path === undefined) await context.engine.call('POST', `${BASE}/ledger`, { json: {} });
  else
    throw usageError('berth cost ledger takes set FILE or rm', 'the file holds postgres://USER:PASSWORD@HOST/DATABASE');
  return 0;
}

interface Status {
  readonly hasCard: boolean;
  readonly ledger: string;
  readonly ratedMs: number | null;
  readonly problem: string | null;
  readonly summary: { readonly month: string; readonly currency: string; readonly projects: { cost: string }[] } | null;
}

export async function showStatus({ engine, out }: VerbContext, options: Options): Promise<number> {
  const status = await engine.call<Status>('GET', `${BASE}/status`);
  if (options.flag('json')) {
    await out(`${JSON.stringify(status)}\n`);
    return 0;
  }
  const { summary } = status;
  const sum = (summary?.projects ?? []).reduce((total, one) => total.plus(Exact.from(one.cost)), Exact.zero);
  const rows = [
    ['rate card', status.hasCard ? 'in force' : 'none: berth cost card set FILE'],
    ['ledger', status.ledger],
    ['rated', status.ratedMs === null ? 'never' : timeText(status.ratedMs)],
    ...(summary === null ? [] : [[summary.month, `${sum.toFixed(2)} ${summary.currency} so far`]]),
    ...(status.problem === null ? [] : [['problem', status.problem]]),
  ];
  await out(renderTable(rows));
  return 0;
}

export async function reportOfDaemon({ engine, out }: VerbContext, options: Options): Promise<number> {
  const query = {
    month: options.list('month'),
    by: dimensionsOf(options).join(','),
    zone: options.text('zone') ?? 'UTC',
  };
  await out(reportLines(await engine.call<ReportTexts>('GET', `${BASE}/report`, { query }), options));
  return 0;
}

export async function rateByDaemon({ engine, out, note }: VerbContext, options: Options): Promise<number> {
  const json = { months: options.list('month') };
  const { months, untold } = await engine.call<{
    months: (Record<'added' | 'replaced' | 'removed' | 'corrections' | 'gaps', number> & {
      month: string;
      unpriced: string[];
    })[];
    untold: string[];
  }>('POST', `${BASE}/rate`, { json });
  for (const one of months) {
    const { month, added, replaced, removed, corrections } = one;
    await out(
      options.flag('json')
        ? `${JSON.stringify(one)}\n`
        : `${month}: ${added} added, ${replaced} replaced, ${removed} removed, ${corrections} corrections\n`,
    );
    for (const resource of one.unpriced) note(`berth: ${month}: no price for ${resource}`);
  }
  for (const one of untold) note(`berth: nobody could be told about budget ${one}`);
  return 0;
}

export async function closeByDaemon({ engine, out }: VerbContext, options: Options): Promise<number> {
  const json = { month: monthOfOptions(options) };
  const { month, closedAtMs } = await engine.call<{ month: string; closedAtMs: number }>('POST', `${BASE}/close`, {
    json,
  });
  await out(`${month} closed at ${timeText(closedAtMs)}\n`);
  return 0;
}

export async function pageOfDaemon({ engine, out }: VerbContext, options: Options): Promise<number> {
  const path = wanted(options, 'out');
  const query = { month: monthOfOptions(options), zone: options.text('zone') ?? 'UTC' };
  const html = await readText((await engine.stream('GET', `${BASE}/page`, { query })).body);
  await files.writeFileAtomic(path, html, 0o644);
  await out(`${path}\n`);
  return 0;
}
