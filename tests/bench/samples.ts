/**
 * The sample store beside DuckDB, on the same samples: N counters read by 10,000 series over November. Ingest is durable:
 * every batch of 10,000 is on the disk before the next is made. The report is the increase of each series in the month;
 * DuckDB says it as max − min, a plain group-by (no counter is reset here, so that both mean the same).
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Exact, openSampleStore } from '#metering';
import { median, type Row } from './report.ts';

const SERIES = 10_000;
const MONTH = { startMs: Date.parse('2026-11-01T00:00:00Z'), endMs: Date.parse('2026-12-01T00:00:00Z') };
/** Price of a byte, so that sums can be compared as money. */
const PRICE = Exact.of(5n, 100n * 2n ** 30n);
const REPEATS = 5;

/** What of DuckDB is used here. It is fetched for the benchmark: 70 MB that nothing else of berth needs. */
interface DuckDb {
  readonly DuckDBInstance: { create(path: string): Promise<DuckInstance> };
}
interface DuckInstance {
  connect(): Promise<DuckConnection>;
  closeSync(): void;
}
interface DuckConnection {
  run(sql: string): Promise<unknown>;
  runAndReadAll(sql: string): Promise<{ getRows(): unknown[][] }>;
  closeSync(): void;
}
const DUCKDB = '@duckdb/node-api@1.5.6-r.1';

function fetchDuckDb(folder: string): DuckDb {
  const flags = ['--no-save', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'];
  execFileSync('npm', ['install', '--prefix', folder, ...flags, DUCKDB], { stdio: ['ignore', 'ignore', 'inherit'] });
  return createRequire(join(folder, 'x.cjs'))('@duckdb/node-api') as DuckDb;
}

export async function benchSamples(count: number): Promise<Row[]> {
  const folder = mkdtempSync(join(tmpdir(), 'berth-bench-samples-'));
  try {
    return await measure(folder, { polls: Math.round(count / SERIES), duckDb: fetchDuckDb(folder) });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measure(
  folder: string,
  { polls, duckDb }: { readonly polls: number; readonly duckDb: DuckDb },
): Promise<Row[]> {
  const { DuckDBInstance } = duckDb;
  const stepMs = Math.floor((MONTH.endMs - MONTH.startMs) / (polls + REPEATS + 1));
  const filling = await openSampleStore(join(folder, 'store'));
  const numbers = Uint32Array.from({ length: SERIES }, (_, index) => filling.series(`vm-${index}/networkOutBytes`));
  const pollOf = (poll: number) => ({
    series: numbers,
    atMs: new Float64Array(SERIES).fill(MONTH.startMs + poll * stepMs),
    value: BigUint64Array.from({ length: SERIES }, (_, index) => BigInt(poll) * BigInt(index * 7919 + 1)),
  });
  let ingestMs = 0;
  for (let poll = 0; poll < polls; poll += 1) {
    const batch = pollOf(poll);
    const began = performance.now();
    await filling.append(batch);
    ingestMs += performance.now() - began;
  }
  const closing = performance.now();
  await filling.close();
  ingestMs += performance.now() - closing;

  const path = join(folder, 'samples.duckdb');
  const making = await DuckDBInstance.create(path);
  const maker = await making.connect();
  await maker.run(`CREATE TABLE samples AS
    SELECT s.range::UINTEGER AS series, (${MONTH.startMs} + p.range * ${stepMs})::BIGINT AS at_ms,
           (p.range * (s.range * 7919 + 1))::UBIGINT AS value
    FROM range(${polls}) p, range(${SERIES}) s ORDER BY p.range, s.range`);
  await maker.run('CHECKPOINT');
  maker.closeSync();
  making.closeSync();

  const firsts: { berthMs: number; duckMs: number }[] = [];
  const refreshes: { berthMs: number; duckMs: number }[] = [];
  for (let repeat = 0; repeat < REPEATS; repeat += 1) {
    const began = performance.now();
    const store = await openSampleStore(join(folder, 'store'));
    const ours = store.increases(MONTH);
    const berthMs = performance.now() - began;
    const duckBegan = performance.now();
    const instance = await DuckDBInstance.create(path);
    const connection = await instance.connect();
    const query = `SELECT series, max(value) - min(value) AS increase FROM samples
      WHERE at_ms >= ${MONTH.startMs} AND at_ms < ${MONTH.endMs} GROUP BY series ORDER BY series`;
    const theirs = (await connection.runAndReadAll(query)).getRows().map(([, increase]) => BigInt(String(increase)));
    const duckMs = performance.now() - duckBegan;
    if (centsOf(ours) !== centsOf(theirs)) throw new Error(`sums differ: ${centsOf(ours)} and ${centsOf(theirs)}`);
    firsts.push({ berthMs, duckMs });
    const next = polls + repeat;
    await store.append(pollOf(next));
    await connection.run(`INSERT INTO samples
      SELECT range::UINTEGER, ${MONTH.startMs + next * stepMs}::BIGINT, (${next} * (range * 7919 + 1))::UBIGINT FROM range(${SERIES})`);
    const oursAgain = performance.now();
    const fresh = store.increases(MONTH);
    const berthAgainMs = performance.now() - oursAgain;
    const duckAgain = performance.now();
    const theirFresh = (await connection.runAndReadAll(query)).getRows();
    refreshes.push({ berthMs: berthAgainMs, duckMs: performance.now() - duckAgain });
    if (centsOf(fresh) !== centsOf(theirFresh.map(([, increase]) => BigInt(String(increase)))))
      throw new Error('sums differ after one more poll');
    connection.closeSync();
    instance.closeSync();
    await store.close();
  }
  const bytes = (await stat(join(folder, 'store/samples'))).size;
  const duckBytes = (await stat(path)).size;
  const samples = polls * SERIES;
  const perSecond = samples / (ingestMs / 1000);
  const first = median(firsts.map((one) => one.berthMs / one.duckMs));
  const refresh = median(refreshes.map((one) => one.berthMs / one.duckMs));
  const ms = (values: readonly number[]): string => `${median(values).toFixed(1)} ms`;
  return [
    {
      measure: `durable ingest of ${samples / 1e6} M samples`,
      value: `${Math.round(perSecond).toLocaleString('en')}/s`,
      limit: '≥ 200,000/s',
      holds: perSecond >= 200_000,
    },
    {
      measure: 'first monthly report ÷ DuckDB group-by, opening included',
      value: first.toFixed(3),
      limit: '≤ 1',
      holds: first <= 1,
    },
    {
      measure: 'refreshed report ÷ DuckDB group-by',
      value: refresh.toFixed(4),
      limit: '≤ 0.02',
      holds: refresh <= 0.02,
    },
    { measure: 'first report, berth', value: ms(firsts.map((one) => one.berthMs)) },
    { measure: 'first report, DuckDB', value: ms(firsts.map((one) => one.duckMs)) },
    { measure: 'refreshed report, berth', value: ms(refreshes.map((one) => one.berthMs)) },
    { measure: 'refreshed report, DuckDB', value: ms(refreshes.map((one) => one.duckMs)) },
    { measure: 'on disk, berth / DuckDB', value: `${(bytes / 1e6).toFixed(0)} / ${(duckBytes / 1e6).toFixed(0)} MB` },
  ];
}

function centsOf(increases: readonly bigint[]): string {
  return Exact.of(increases.reduce((sum, one) => sum + one, 0n))
    .times(PRICE)
    .toFixed(2);
}
