/**
 * `npm run bench -- [NAME] [--pairs N] [--vms N] [--write] [--assert] [--force]`; without a name all of them.
 *
 * Both sides of every ratio are measured in one run. A loaded machine is refused unless forced: its figures would say
 * nothing. `--write` puts the table into docs/benchmarks.md; `--assert` exits 1 when a promise does not hold or could not
 * be measured, and says why.
 */
import { parseArgs } from 'node:util';
import { BerthError, messageOf } from '#base';
import { VERBS, waitUntilCalm } from '#bench';
import { hostLoad } from '#platform';

import { benchFleet } from './fleet.ts';
import { benchProduct, notesOf, rowsOf, shortfalls } from './product.ts';
import { benchPs } from './ps.ts';
import { benchPull } from './pull.ts';
import { type Row, renderTable, writeSection } from './report.ts';
import { benchSamples } from './samples.ts';
import { benchSleepers } from './sleepers.ts';
import { benchStart } from './start.ts';

/** Runnable processes on average over the last minute, above which a two-core machine is busy with something else. */
const MAX_LOAD = 0.7;
/** Pairs of the benchmarks of this folder when nothing is said; those of `berth bench` know their own. */
const PAIRS = 20;
/** One pair of discoveries takes half a minute. */
const FLEET_PAIRS = 5;
const FLEET_CHANGES = 40;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    pairs: { type: 'string' },
    vms: { type: 'string' },
    sleepers: { type: 'string', default: '10000' },
    stopped: { type: 'string', default: '1000' },
    samples: { type: 'string', default: '100000000' },
    discovered: { type: 'string', default: '10000' },
    listed: { type: 'string', default: '100000' },
    searched: { type: 'string', default: '1000000' },
    write: { type: 'boolean', default: false },
    assert: { type: 'boolean', default: false },
    force: { type: 'boolean', default: false },
  },
});
const pairs = values.pairs === undefined ? undefined : Number(values.pairs);
const vms = values.vms === undefined ? undefined : Number(values.vms);

interface Outcome {
  readonly title: string;
  readonly notes: string;
  readonly rows: readonly Row[];
  /** Promises that were not kept, in words. */
  readonly shortfalls: readonly string[];
}

async function pullRows(): Promise<Row[]> {
  const result = await benchPull({ pairs: pairs ?? PAIRS });
  const measure = `pull → runnable of a ${(result.tarBytes / 1e6).toFixed(0)} MB image ÷ gunzip | sha256sum, median of ${result.ratios.length} pairs`;
  return [
    { measure, value: result.medianRatio.toFixed(2), limit: '≤ 2', holds: result.medianRatio <= 2 },
    { measure: 'pull, median', value: `${(result.medianPullMs / 1000).toFixed(2)} s` },
    { measure: 'gunzip | sha256sum, median', value: `${(result.medianBaselineMs / 1000).toFixed(2)} s` },
    { measure: 'memory the pull adds to its process', value: `${(result.rssGrowthBytes / 1e6).toFixed(0)} MB` },
  ];
}

function ofRows(title: string, notes: string, rows: readonly Row[]): Outcome {
  const broken = rows.filter((row) => row.holds === false).map((row) => `${row.measure}: ${row.value}`);
  return { title, notes, rows, shortfalls: broken };
}

const benches: Readonly<Record<string, () => Promise<Outcome>>> = {
  cold: async () =>
    ofRows(
      'Cold start, memory, lists, sizes',
      'Under TCG (software emulation). `npm run bench -- cold --write`. What is compared: tests/bench/start.ts.',
      await benchStart({ pairs: pairs ?? PAIRS, vms: vms ?? 20, stopped: Number(values.stopped) }),
    ),
  pull: async () =>
    ofRows('Pull', 'From a real registry on loopback. `npm run bench -- pull --write`.', await pullRows()),
  sleepers: async () =>
    ofRows(
      'Sleepers',
      'One VM is really put to sleep; the others are copies of its record and its files under ids of their own, and some of them are woken. `npm run bench -- sleepers --write`.',
      await benchSleepers(Number(values.sleepers)),
    ),
  samples: async () =>
    ofRows(
      'Usage samples',
      'Counters of 10,000 series over a month, beside DuckDB on the same samples; sums equal to the cent. `npm run bench -- samples --write`. What is compared: tests/bench/samples.ts.',
      await benchSamples(Number(values.samples)),
    ),
  fleet: async () =>
    ofRows(
      'The fleet at scale',
      'Through the shipped daemon and its API; every answer is compared with what it should be. `npm run bench -- fleet --write`. What is compared: tests/bench/fleet.ts.',
      await benchFleet({
        discovered: Number(values.discovered),
        pairs: pairs ?? FLEET_PAIRS,
        changes: FLEET_CHANGES,
        listed: Number(values.listed),
        searched: Number(values.searched),
      }),
    ),
  ps: async () =>
    ofRows(
      'Listing',
      'Whole processes on one daemon with three VMs. `npm run bench -- ps --write`.',
      await benchPs(pairs ?? PAIRS),
    ),
  ...Object.fromEntries(
    VERBS.map((verb) => [
      verb,
      async (): Promise<Outcome> => {
        const report = await benchProduct(verb, { pairs, vms, force: values.force });
        process.stderr.write('\n');
        return {
          title: `berth bench ${verb}`,
          notes: notesOf(report),
          rows: rowsOf(report),
          shortfalls: shortfalls(report),
        };
      },
    ]),
  ),
};

function refuse(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}

const [name] = positionals;
if (name !== undefined && benches[name] === undefined)
  refuse(`there is no benchmark ${name}; there are: ${Object.keys(benches).join(', ')}`);
const load = hostLoad();
if (load > MAX_LOAD && !values.force)
  refuse(`the machine is busy (load ${load.toFixed(2)}, limit ${MAX_LOAD}); wait, or measure anyway with --force`);

for (const [index, [each, bench]] of Object.entries(benches)
  .filter(([one]) => name === undefined || one === name)
  .entries()) {
  if (index > 0 && !values.force) await waitUntilCalm();
  try {
    const outcome = await bench();
    process.stdout.write(`${outcome.title}\n${renderTable(outcome.rows)}\n`);
    if (values.write) writeSection(each, outcome.title, outcome.rows, outcome.notes);
    for (const line of outcome.shortfalls) process.stderr.write(`${each}: ${line}\n`);
    if (values.assert && outcome.shortfalls.length > 0) process.exitCode = 1;
  } catch (error) {
    // The others have their turn: one run says all there is to say.
    process.stderr.write(`\n${each}: ${messageOf(error)}\n`);
    if (error instanceof BerthError && error.hint !== undefined) process.stderr.write(`${each}: ${error.hint}\n`);
    process.exitCode = 1;
    if (error instanceof BerthError && error.kind === 'cancelled') break;
  }
}
