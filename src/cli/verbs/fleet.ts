/** `fleet ls|show|search|tree|top|history|at|moves|drift|usage|utilization` and the power verbs. */
import { BerthError } from '#base';
import type {
  ChangeListing,
  HostListing,
  HostUseListing,
  IntervalListing,
  LiveFigures,
  Page,
  SightingListing,
  Source,
  VmListing,
} from '#fleet';
import { isTerminal, nowMs, sleep } from '#platform';
import { type Options, usageError } from '../command-line.ts';
import {
  AT_COLUMNS,
  CHANGE_COLUMNS,
  changeRow,
  FIGURES_COLUMNS,
  figuresRow,
  HISTORY_COLUMNS,
  intervalRow,
  MOVE_COLUMNS,
  treeText,
  VM_COLUMNS,
  vmRow,
} from '../fleet-rows.ts';
import { eachUsageFact } from '../fleet-usage.ts';
import { HOST_USE_COLUMNS, hostUseRows, hostUseSums } from '../host-use-rows.ts';
import { parseInstant } from '../instants.ts';
import { LISTING_FLAGS, type Listing, type Row, renderListing } from '../listing.ts';
import type { Verb, VerbContext } from '../verb.ts';

type Action = (context: VerbContext, options: Options, words: readonly string[]) => Promise<number>;

const power = (verb: string): { words: number; run: Action } => ({
  words: 1,
  run: (context, options, words) => act(context, options, [verb, words[0] ?? '']),
});

const ACTIONS: Readonly<Record<string, { words: number; run: Action }>> = {
  ls: { words: 0, run: list },
  show: { words: 1, run: show },
  search: { words: 1, run: search },
  tree: { words: 0, run: tree },
  top: { words: 0, run: top },
  history: { words: 1, run: history },
  at: { words: 1, run: at },
  moves: { words: 0, run: moves },
  drift: { words: 0, run: drift },
  usage: { words: 0, run: usage },
  utilization: { words: 0, run: utilization },
  start: power('start'),
  stop: power('stop'),
  shutdown: power('shutdown'),
  reboot: power('reboot'),
  pause: power('pause'),
  resume: power('resume'),
  snapshot: power('snapshot'),
};

const BASE = '/berth/v1/fleet';
const WATCH_MS = 1_000;
/** A host of the tree has a few hundred VMs; past this it is no picture any more. */
const TREE_VMS = 1_000;

export const fleet: Verb = {
  shape: {
    usage: 'ls|show|search|tree|top|history|at|moves|drift|usage|utilization|VERB [OPTIONS] ...',
    about:
      'The VMs of all sources (see "berth source"), where they are and where they were.\n\n' +
      '  ls             list them, in pages\n' +
      '  show VM        everything about one, and every source that shows it\n' +
      '  search TEXT    by part of a name, id, address, tag, host, guest or network\n' +
      '  tree           sources, hosts, VMs\n' +
      '  top            what running ones take\n' +
      '  history VM     where one was, in which state and shape\n' +
      '  at TIME        the whole estate as it stood\n' +
      '  moves          who changed hosts\n' +
      '  drift          what changed without berth\n' +
      '  usage          who had what, when, as a usage file for "berth cost"\n' +
      '  utilization    what VMs used of each host, what it needed itself, and what was idle\n' +
      '  start, stop, shutdown, reboot, pause, resume, snapshot VM\n' +
      '                 where the source was added with --allow-power; stop and reboot ask first',
    flags: [
      {
        flags: '-f, --filter <NAME=VALUE>',
        about: 'ls: source, state, host, tag, name, uuid, owner, project, os, mode, accelerator, stale',
        many: true,
      },
      {
        flags: '--sort <NAME>',
        about: 'ls: name, state, host, owner, vcpus, memory, disk or changed; -NAME turns it round',
      },
      { flags: '-n, --limit <NUMBER>', about: 'so many on a page (100, at most 1000)' },
      { flags: '--after <PLACE>', about: 'the page after this place, which the page before named' },
      { flags: '-a, --all', about: 'ls, search: with VMs that are gone' },
      { flags: '--watch', about: 'ls, top: again and again' },
      { flags: '--since <TIME>', about: 'history, moves, drift: from then on (90m, 2d, 2026-11-22)' },
      { flags: '--until <TIME>', about: 'history, moves, drift: until then' },
      { flags: '--from <TIME>', about: 'utilization: from then on, in whole hours (24 hours ago)' },
      { flags: '--to <TIME>', about: 'utilization: until then (now)' },
      { flags: '--host <NAME>', about: 'utilization: of this host' },
      { flags: '--hourly', about: 'utilization: hour by hour, as --json always is' },
      { flags: '-y, --yes', about: 'stop, reboot: without asking' },
      ...LISTING_FLAGS,
    ],
    least: 1,
    most: 2,
    examples: [
      'berth fleet ls --filter source=rack1 --filter state=running --sort -memory',
      'berth fleet search 10.1.2.3',
      'berth fleet history db --since 7d',
      'berth fleet at "2026-11-20 09:00" --json',
      'berth fleet utilization --from 7d --host rack1',
    ],
  },
  run: (context, options, [action = '', ...words]) => {
    const chosen = ACTIONS[action];
    const help = 'see "berth fleet --help"';
    if (chosen === undefined) throw usageError(`unknown command: berth fleet ${action}`, help);
    if (chosen.words !== words.length)
      throw usageError(`berth fleet ${action} takes ${chosen.words} words, not ${words.length}`, help);
    return chosen.run(context, options, words);
  },
};

interface Shown<T> {
  readonly columns: Listing['columns'];
  readonly rowOf: (item: T) => Row;
}

/** JSON is what the API says, whole; tables and templates are made of rows. */
async function print<T>({ out, note }: VerbContext, options: Options, page: Page<T>, shown: Shown<T>): Promise<void> {
  if (options.flag('json') || options.text('format') === 'json') {
    await out(page.items.map((item) => `${JSON.stringify(item)}\n`).join(''));
  } else await out(renderListing({ rows: page.items.map(shown.rowOf), columns: shown.columns }, options));
  if (page.next !== null) note(`berth: there are more: --after ${page.next}`);
}

const VMS: Shown<VmListing> = { columns: VM_COLUMNS, rowOf: vmRow };

/** Everything that is known; the file can be kept, and read by any berth. */
async function usage(context: VerbContext): Promise<number> {
  await context.out(`${JSON.stringify({ berth: 'usage', version: 1 })}\n`);
  await eachUsageFact(context, {}, (fact) => context.out(`${JSON.stringify(fact)}\n`));
  return 0;
}

async function list(context: VerbContext, options: Options): Promise<number> {
  const sort = options.text('sort');
  const query = {
    filter: options.list('filter'),
    sort: sort?.replace(/^-/, ''),
    descending: sort?.startsWith('-') === true,
    limit: options.number('limit'),
    after: options.text('after'),
    all: options.flag('all'),
  };
  return await again(context, options, async () =>
    print(context, options, await context.engine.call<Page<VmListing>>('GET', `${BASE}/vms`, { query }), VMS),
  );
}

async function search(context: VerbContext, options: Options, [text = '']: readonly string[]): Promise<number> {
  const query = { q: text, limit: options.number('limit'), after: options.text('after'), all: options.flag('all') };
  await print(context, options, await context.engine.call<Page<VmListing>>('GET', `${BASE}/search`, { query }), VMS);
  return 0;
}

async function top(context: VerbContext, options: Options): Promise<number> {
  return await again(context, options, async () => {
    const items = await context.engine.call<LiveFigures[]>('GET', `${BASE}/top`);
    items.sort((a, b) => (b.cpuShare ?? -1) - (a.cpuShare ?? -1));
    const limit = options.number('limit') ?? items.length;
    await print(
      context,
      options,
      { items: items.slice(0, limit), next: null },
      { columns: FIGURES_COLUMNS, rowOf: figuresRow },
    );
  });
}

/** Once, or with --watch until it is interrupted: a terminal is cleared in between. */
async function again(context: VerbContext, options: Options, work: () => Promise<void>): Promise<number> {
  for (;;) {
    if (options.flag('watch') && isTerminal('stdout')) await context.out('\u001b[H\u001b[2J');
    await work();
    if (!options.flag('watch')) return 0;
    await sleep(WATCH_MS);
  }
}

async function show(context: VerbContext, _options: Options, [vm = '']: readonly string[]): Promise<number> {
  const found = await context.engine.call<VmListing & { sightings: SightingListing[] }>(
    'GET',
    `${BASE}/vms/${encodeURIComponent(vm)}`,
  );
  await context.out(`${JSON.stringify(found, undefined, 2)}\n`);
  return 0;
}

async function tree({ engine, out, note }: VerbContext): Promise<number> {
  const [sources, hosts, page] = await Promise.all([
    engine.call<Source[]>('GET', '/berth/v1/sources'),
    engine.call<HostListing[]>('GET', `${BASE}/hosts`),
    engine.call<Page<VmListing>>('GET', `${BASE}/vms`, { query: { limit: TREE_VMS, sort: 'host' } }),
  ]);
  await out(treeText(sources, hosts, page.items));
  if (page.next !== null) note(`berth: only the first ${TREE_VMS} VMs are drawn; "berth fleet ls" has all`);
  return 0;
}

function instantOf(options: Options, name: string): number | undefined {
  const text = options.text(name);
  return text === undefined ? undefined : parseInstant(text, nowMs());
}

function spanOf(options: Options): Record<string, string | number | undefined> {
  const [from, to] = [instantOf(options, 'since'), instantOf(options, 'until')];
  return { from, to, limit: options.number('limit'), after: options.text('after') };
}

async function utilization({ engine, out }: VerbContext, options: Options): Promise<number> {
  const query = { from: instantOf(options, 'from'), to: instantOf(options, 'to'), host: options.text('host') };
  const hours = await engine.call<HostUseListing[]>('GET', `${BASE}/utilization`, { query });
  if (options.flag('json') || options.text('format') === 'json') {
    await out(hours.map((hour) => `${JSON.stringify(hour)}\n`).join(''));
    return 0;
  }
  const rows = hostUseSums(hours, options.flag('hourly')).flatMap(hostUseRows);
  await out(renderListing({ rows, columns: HOST_USE_COLUMNS }, options));
  return 0;
}

async function history(context: VerbContext, options: Options, [vm = '']: readonly string[]): Promise<number> {
  const path = `${BASE}/vms/${encodeURIComponent(vm)}/history`;
  const page = await context.engine.call<Page<IntervalListing>>('GET', path, { query: spanOf(options) });
  await print(context, options, page, { columns: HISTORY_COLUMNS, rowOf: intervalRow });
  return 0;
}

async function at(context: VerbContext, options: Options, [time = '']: readonly string[]): Promise<number> {
  const query = { time: parseInstant(time, nowMs()), limit: options.number('limit'), after: options.text('after') };
  const page = await context.engine.call<Page<IntervalListing>>('GET', `${BASE}/at`, { query });
  await print(context, options, page, { columns: AT_COLUMNS, rowOf: intervalRow });
  return 0;
}

async function moves(context: VerbContext, options: Options): Promise<number> {
  const page = await context.engine.call<Page<IntervalListing>>('GET', `${BASE}/moves`, { query: spanOf(options) });
  await print(context, options, page, { columns: MOVE_COLUMNS, rowOf: intervalRow });
  return 0;
}

async function drift(context: VerbContext, options: Options): Promise<number> {
  const page = await context.engine.call<Page<ChangeListing>>('GET', `${BASE}/drift`, { query: spanOf(options) });
  await print(context, options, page, { columns: CHANGE_COLUMNS, rowOf: changeRow });
  return 0;
}

/** A guest that is stopped or reset loses what it has not written: that is asked for twice. */
const DESTRUCTIVE: ReadonlySet<string> = new Set(['stop', 'reboot']);

async function act(context: VerbContext, options: Options, [verb = '', vm = '']: readonly string[]): Promise<number> {
  const path = `${BASE}/vms/${encodeURIComponent(vm)}`;
  if (DESTRUCTIVE.has(verb) && !options.flag('yes')) {
    const found = await context.engine.call<VmListing>('GET', path);
    await confirm(
      `${verb} ${found.name} (${found.id}) on ${found.host ?? 'an unknown host'} of ${found.source}, which berth did not make`,
    );
  }
  await context.engine.call('POST', `${path}/power`, { json: { verb } });
  await context.out(`${vm}\n`);
  return 0;
}

async function confirm(what: string): Promise<void> {
  const refusal = new BerthError('denied', 'fleet.not_confirmed', `not done: ${what}`, {
    hint: 'say --yes to do it without being asked',
  });
  if (!isTerminal('stdin')) throw refusal;
  const { askLine } = await import('../ask-line.ts');
  if ((await askLine(`${what}? [y/N] `)).trim().toLowerCase() !== 'y') throw refusal;
}
