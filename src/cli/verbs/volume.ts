/** `volume create|ls|inspect|rm|prune`. */
import { type Options, usageError } from '../command-line.ts';
import { filtersOf } from '../engine-client.ts';
import { LISTING_FLAGS, renderListing } from '../listing.ts';
import { humanSize } from '../tables.ts';
import { compileTemplate } from '../template.ts';
import type { Verb, VerbContext } from '../verb.ts';
import { forEach } from './each.ts';

type Action = (context: VerbContext, options: Options, words: readonly string[]) => Promise<number>;

const ACTIONS: Readonly<Record<string, { least: number; most: number; run: Action }>> = {
  create: { least: 0, most: 1, run: create },
  ls: { least: 0, most: 0, run: list },
  inspect: { least: 1, most: 64, run: inspect },
  rm: { least: 1, most: 64, run: remove },
  prune: { least: 0, most: 0, run: prune },
};

interface ListedVolume {
  readonly Name: string;
  readonly Driver: string;
  readonly Mountpoint: string;
  readonly CreatedAt: string;
  readonly Labels: Readonly<Record<string, string>>;
  readonly UsageData: { readonly Size: number; readonly RefCount: number };
}

export const volume: Verb = {
  shape: {
    usage: 'create|ls|inspect|rm|prune [OPTIONS] [NAME...]',
    about:
      'Disks with names, which outlive the VMs that have them.\n\n' +
      '  create [NAME]    make one; "run -v NAME:/path" does so as well\n' +
      '  ls               list them, with what they take and how many VMs want them\n' +
      '  inspect NAME     everything about it, as JSON\n' +
      '  rm NAME          remove it and what it holds\n' +
      '  prune            remove those without a name that no VM wants; with --all those with a name as well',
    flags: [
      {
        flags: '-o, --opt <NAME=VALUE>',
        about: 'create: size=20g; otherwise 10 GiB, taken as they are written',
        many: true,
      },
      { flags: '-l, --label <NAME=VALUE>', about: 'create: a label', many: true },
      { flags: '-f, --filter <NAME=VALUE>', about: 'ls, prune: dangling, name, label', many: true },
      { flags: '-q, --quiet', about: 'ls: names only' },
      { flags: '-a, --all', about: 'prune: named volumes, too' },
      { flags: '--force', about: 'rm: one that is not there is no error; prune: needed' },
      ...LISTING_FLAGS,
    ],
    least: 1,
    most: 65,
    examples: [
      'berth volume create --opt size=50g db',
      'berth run -v db:/var/lib/postgresql/data postgres',
      'berth volume ls',
    ],
  },
  run: (context, options, [action = '', ...words]) => {
    const chosen = ACTIONS[action];
    const help = 'see "berth volume --help"';
    if (chosen === undefined) throw usageError(`unknown command: berth volume ${action}`, help);
    if (words.length < chosen.least || words.length > chosen.most)
      throw usageError(`berth volume ${action} does not take ${words.length} names`, help);
    return chosen.run(context, options, words);
  },
};

const pathOf = (name: string): string => `/volumes/${encodeURIComponent(name)}`;

async function create({ engine, out }: VerbContext, options: Options, [name]: readonly string[]): Promise<number> {
  const made = await engine.call<ListedVolume>('POST', '/volumes/create', {
    json: { Name: name ?? '', DriverOpts: pairsOf(options, 'opt'), Labels: pairsOf(options, 'label') },
  });
  await out(`${made.Name}\n`);
  return 0;
}

function pairsOf(options: Options, flag: string): Record<string, string> {
  return Object.fromEntries(
    options.list(flag).map((word) => {
      const [name = '', value = ''] = word.split(/=(.*)/s, 2);
      if (name === '') throw usageError(`invalid argument "${word}" for --${flag}: expected name=value`);
      return [name, value];
    }),
  );
}

async function list({ engine, out }: VerbContext, options: Options): Promise<number> {
  const filters = filtersOf(options.list('filter'));
  const { Volumes } = await engine.call<{ Volumes: ListedVolume[] }>('GET', '/volumes', { query: { filters } });
  if (options.flag('quiet')) {
    await out(Volumes.map(({ Name }) => `${Name}\n`).join(''));
    return 0;
  }
  const used = await engine.call<{ Volumes: ListedVolume[] }>('GET', '/system/df');
  const usage = new Map(used.Volumes.map(({ Name, UsageData }) => [Name, UsageData]));
  const rows = Volumes.map((one) => ({
    ...one,
    Size: humanSize(usage.get(one.Name)?.Size ?? 0),
    Links: usage.get(one.Name)?.RefCount ?? 0,
  }));
  await out(
    renderListing(
      {
        rows,
        columns: [
          ['Driver', 'DRIVER'],
          ['Name', 'VOLUME NAME'],
          ['Size', 'SIZE'],
          ['Links', 'VMS'],
        ],
      },
      options,
    ),
  );
  return 0;
}

async function inspect(context: VerbContext, options: Options, names: readonly string[]): Promise<number> {
  const found = await Promise.all(names.map((name) => context.engine.call('GET', pathOf(name))));
  const format = options.flag('json') ? 'json' : (options.text('format') ?? '');
  if (format === '') await context.out(`${JSON.stringify(found, undefined, 4)}\n`);
  else if (format === 'json') await context.out(found.map((one) => `${JSON.stringify(one)}\n`).join(''));
  else await context.out(found.map((one) => `${compileTemplate(format)(one)}\n`).join(''));
  return 0;
}

async function remove(context: VerbContext, options: Options, names: readonly string[]): Promise<number> {
  const force = options.flag('force');
  return await forEach(context, names, async (name) => {
    await context.engine.call('DELETE', pathOf(name), { query: { force } });
    return undefined;
  });
}

async function prune(context: VerbContext, options: Options): Promise<number> {
  const all = options.flag('all');
  if (!options.flag('force')) throw usageError('this removes volumes for good', 'say so with --force');
  const filters = filtersOf([...options.list('filter'), ...(all ? ['all=true'] : [])]);
  const answer = await context.engine.call<{ VolumesDeleted: string[] | null; SpaceReclaimed: number }>(
    'POST',
    '/volumes/prune',
    { query: { filters } },
  );
  for (const name of answer.VolumesDeleted ?? []) await context.out(`${name}\n`);
  await context.out(`Total reclaimed space: ${humanSize(answer.SpaceReclaimed)}\n`);
  return 0;
}
