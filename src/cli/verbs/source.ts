/** `source add|ls|test|refresh|pace|rm`. */
import type { Check, Source } from '#fleet';
import { nowMs } from '#platform';
import { type Options, usageError } from '../command-line.ts';
import { FAILED } from '../exit-codes.ts';
import { SOURCE_COLUMNS, sourceRow } from '../fleet-rows.ts';
import { LISTING_FLAGS, renderListing } from '../listing.ts';
import { readCredentials } from '../source-credentials.ts';
import { renderTable } from '../tables.ts';
import type { Verb, VerbContext } from '../verb.ts';

type Action = (context: VerbContext, options: Options, words: readonly string[]) => Promise<number>;

const ACTIONS: Readonly<Record<string, { words: number; run: Action }>> = {
  add: { words: 2, run: add },
  ls: { words: 0, run: list },
  test: { words: 1, run: tryOut },
  refresh: { words: 1, run: refresh },
  pace: { words: 1, run: pace },
  rm: { words: 1, run: remove },
};

const BASE = '/berth/v1/sources';

export const source: Verb = {
  shape: {
    usage: 'add|ls|test|refresh|pace|rm [OPTIONS] ...',
    about:
      'Hypervisors whose VMs berth knows, beside its own.\n\n' +
      '  add NAME URL   begin to look at one: qemu:///system, qemu+ssh://root@host/system, xl+ssh://root@host/,\n' +
      '                 vsphere://host/, xapi://host/, hyperv+ssh://user@host/\n' +
      '  ls             list them, and whether they answer\n' +
      '  test NAME      what works there, and what is refused and why; exit code 1 when it is not reached\n' +
      '  refresh NAME   look now\n' +
      '  pace NAME      how often it is looked at (--every) and its counters are read (--sample-every)\n' +
      '  rm NAME        forget one; the history of its VMs stays',
    flags: [
      { flags: '--credentials-file <FILE>', about: 'add: {"user": ..., "password": ...}, or both on a line each' },
      { flags: '--credentials-env <NAME>', about: 'add: the variable that holds the same, or user:password' },
      { flags: '--user <NAME>', about: 'add: this user; the password is asked for without the two above' },
      { flags: '--pin <sha256:HEX>', about: 'add: trust this certificate, and no other' },
      { flags: '--allow-power', about: 'add: permit start, stop and the like; without it the source is only read' },
      { flags: '--every <SECONDS>', about: 'add, pace: look this often where there are no events (30)' },
      { flags: '--sample-every <SECONDS>', about: 'add, pace: read counters this often (60)' },
      ...LISTING_FLAGS,
    ],
    least: 1,
    most: 3,
    examples: [
      'berth source add local qemu:///system',
      'berth source add rack1 qemu+ssh://root@rack1/system --allow-power',
      'berth source test rack1',
      'berth source ls --json',
    ],
  },
  run: (context, options, [action = '', ...words]) => {
    const chosen = ACTIONS[action];
    const help = 'see "berth source --help"';
    if (chosen === undefined) throw usageError(`unknown command: berth source ${action}`, help);
    if (chosen.words !== words.length)
      throw usageError(`berth source ${action} takes ${chosen.words} words, not ${words.length}`, help);
    return chosen.run(context, options, words);
  },
};

const pathOf = (name: string, action = ''): string => `${BASE}/${encodeURIComponent(name)}${action}`;

async function add({ engine, env, out }: VerbContext, options: Options, [name = '', url = '']: readonly string[]) {
  const [seconds, sampleSeconds] = [options.number('every'), options.number('sample-every')];
  const pin = options
    .text('pin')
    ?.replace(/^sha256:/i, '')
    .replaceAll(':', '')
    .toLowerCase();
  const json = {
    name,
    url,
    credentials: await readCredentials(options, env),
    pin,
    allowPower: options.flag('allow-power'),
    everyMs: seconds === undefined ? undefined : seconds * 1_000,
    sampleEveryMs: sampleSeconds === undefined ? undefined : sampleSeconds * 1_000,
  };
  const made = await engine.call<Source>('POST', BASE, { json });
  await out(`${made.name}\n`);
  return 0;
}

async function list({ engine, out }: VerbContext, options: Options) {
  const sources = await engine.call<Source[]>('GET', BASE);
  if (options.flag('json')) {
    for (const one of sources) await out(`${JSON.stringify(one)}\n`);
    return 0;
  }
  const now = nowMs();
  await out(renderListing({ rows: sources.map((one) => sourceRow(one, now)), columns: SOURCE_COLUMNS }, options));
  return 0;
}

async function tryOut({ engine, out }: VerbContext, options: Options, [name = '']: readonly string[]) {
  const checks = await engine.call<Check[]>('POST', pathOf(name, '/test'));
  if (options.flag('json')) for (const check of checks) await out(`${JSON.stringify(check)}\n`);
  else await out(renderTable(checks.map(({ verdict, what, told }) => [verdict, what, told])));
  return checks.some((check) => check.verdict === 'refused') ? FAILED : 0;
}

async function refresh({ engine, out }: VerbContext, _options: Options, [name = '']: readonly string[]) {
  await engine.call('POST', pathOf(name, '/refresh'));
  await out(`${name}\n`);
  return 0;
}

async function pace({ engine, out }: VerbContext, options: Options, [name = '']: readonly string[]) {
  const { every, sampleEvery } = { every: options.number('every'), sampleEvery: options.number('sample-every') };
  if (every === undefined && sampleEvery === undefined)
    throw usageError('berth source pace takes --every, --sample-every or both', 'see "berth source --help"');
  const inMs = (seconds: number | undefined): number | undefined =>
    seconds === undefined ? undefined : seconds * 1_000;
  const json = { everyMs: inMs(every), sampleEveryMs: inMs(sampleEvery) };
  await engine.call('POST', pathOf(name, '/pace'), { json });
  await out(`${name}\n`);
  return 0;
}

async function remove({ engine, out }: VerbContext, _options: Options, [name = '']: readonly string[]) {
  await engine.call('DELETE', pathOf(name));
  await out(`${name}\n`);
  return 0;
}
