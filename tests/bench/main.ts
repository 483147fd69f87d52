/**
 * `npm run bench -- start|pull|ps [--pairs N] [--write] [--assert] [--force]`
 *
 * Both sides of every ratio are measured in one run. A loaded machine is refused unless forced: its figures would say
 * nothing. `--write` puts the table into docs/benchmarks.md; `--assert` exits 1 when a promise does not hold.
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { benchPs } from './ps.ts';
import { benchPull } from './pull.ts';
import { type Row, renderTable, writeSection } from './report.ts';
import { benchStart } from './start.ts';

/** Runnable processes on average over the last minute, above which a two-core machine is busy with something else. */
const MAX_LOAD = 0.7;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    pairs: { type: 'string', default: '20' },
    vms: { type: 'string', default: '20' },
    stopped: { type: 'string', default: '1000' },
    write: { type: 'boolean', default: false },
    assert: { type: 'boolean', default: false },
    force: { type: 'boolean', default: false },
  },
});

const [load = 0] = loadavg();
if (load > MAX_LOAD && !values.force) {
  process.stderr.write(
    `the machine is busy (load ${load.toFixed(2)}, limit ${MAX_LOAD}); wait, or measure anyway with --force\n`,
  );
  process.exit(2);
}

async function startRows(): Promise<Row[]> {
  return await benchStart({ pairs: Number(values.pairs), vms: Number(values.vms), stopped: Number(values.stopped) });
}

async function pullRows(): Promise<Row[]> {
  const result = await benchPull({ pairs: Number(values.pairs) });
  const measure = `pull → runnable of a ${(result.tarBytes / 1e6).toFixed(0)} MB image ÷ gunzip | sha256sum, median of ${result.ratios.length} pairs`;
  return [
    { measure, value: result.medianRatio.toFixed(2), limit: '≤ 2', holds: result.medianRatio <= 2 },
    { measure: 'pull, median', value: `${(result.medianPullMs / 1000).toFixed(2)} s` },
    { measure: 'gunzip | sha256sum, median', value: `${(result.medianBaselineMs / 1000).toFixed(2)} s` },
    { measure: 'memory the pull adds to its process', value: `${(result.rssGrowthBytes / 1e6).toFixed(0)} MB` },
  ];
}

const benches: Readonly<Record<string, { title: string; notes: string; run: () => Promise<Row[]> }>> = {
  start: {
    title: 'Start, memory, lists, sizes',
    notes: 'Under TCG (software emulation). `npm run bench -- start --write`. What is compared: tests/bench/start.ts.',
    run: startRows,
  },
  pull: { title: 'Pull', notes: 'From a real registry on loopback. `npm run bench -- pull --write`.', run: pullRows },
  ps: {
    title: 'Listing',
    notes: 'Whole processes on one daemon with three VMs. `npm run bench -- ps --write`.',
    run: () => benchPs(Number(values.pairs)),
  },
};

const name = positionals[0] ?? 'start';
const bench = benches[name];
if (bench === undefined) {
  process.stderr.write(`there is no benchmark ${name}; there are: ${Object.keys(benches).join(', ')}\n`);
  process.exit(2);
}
const rows = await bench.run();
process.stdout.write(`${renderTable(rows)}\n`);
if (values.write) writeSection(name, bench.title, rows, bench.notes);
if (values.assert && rows.some((row) => row.holds === false)) process.exitCode = 1;
