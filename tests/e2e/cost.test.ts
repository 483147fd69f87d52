/** `berth cost` as it is shipped: the example card of docs/cost.md, usage from a file, ledgers, budgets that are told. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Exact } from '#metering';
import { startPostgres } from '../harness/postgres.ts';
import { usageFileText } from '../harness/usage-file.ts';

const MAIN = new URL('../../.build/cli/main.cjs', import.meta.url).pathname;
let folder = '';
let [card, usage] = ['', ''];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'berth-cost-'));
  const doc = await readFile(new URL('../../docs/cost.md', import.meta.url), 'utf8');
  card = await put('house.yaml', /```yaml\n([\s\S]*?)```/.exec(doc)?.[1] ?? '');
  usage = await put('usage.jsonl', usageFileText());
});
after(() => rm(folder, { recursive: true, force: true }));

async function put(name: string, text: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text);
  return path;
}

async function berth(...words: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, [MAIN, 'cost', ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [out, err]: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on('data', (data: Buffer) => out.push(data));
  child.stderr.on('data', (data: Buffer) => err.push(data));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, out: Buffer.concat(out).toString(), err: Buffer.concat(err).toString() };
}

async function lines(...words: string[]): Promise<Record<string, string>[]> {
  const { code, out, err } = await berth(...words, '--json');
  assert.equal(code, 0, err);
  return out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, string>);
}

const now = (): string[] => ['--card', card, '--usage', usage, '--month', '2026-11'];
const sumOfCosts = (rows: readonly Record<string, string>[]): string =>
  rows
    .filter((row) => !Object.values(row).includes('total'))
    .reduce((sum, row) => sum.plus(Exact.from(row['cost'] ?? '')), Exact.zero)
    .toFixed(20);

test('the same month by any dimension adds up to the same total, to the last digit', async () => {
  const totals = new Set<string>();
  for (const by of ['project', 'owner', 'source', 'host', 'vm', 'month', 'item', 'category', 'project,vm']) {
    const rows = await lines('report', ...now(), '--by', by);
    const total = rows.at(-1)?.['cost'] ?? '';
    assert.equal(sumOfCosts(rows), Exact.from(total).toFixed(20), by);
    totals.add(total);
  }
  assert.equal(totals.size, 1);
  const projects = await lines('report', ...now(), '--by', 'project');
  assert.deepEqual(projects.map((row) => row['project']).sort(), ['-', 'office', 'shop', 'total']);
  const table = await berth('report', ...now());
  assert.match(table.out, /^PROJECT +USAGE +FIXED +IDLE +OVERHEAD +TAX +COST EUR\nshop +/);
  // The card prices addresses and traffic from the 15th on only, and counters were read once a day.
  assert.match(
    table.err,
    /no price for address \(5 VMs\)\n.*no price for network-out \(1 VM\)\n.*30 gaps in counters\n/,
  );
});

test('by day in a time zone: 30 days and the hour of the zone before and after', async () => {
  const days = await lines('report', ...now(), '--by', 'day', '--zone', 'Europe/Berlin');
  assert.equal(days.length, 32);
  assert.deepEqual([days[0]?.['day'], days[30]?.['day']], ['2026-11-01', '2026-12-01']);
  const odd = await berth('report', ...now(), '--by', 'day', '--zone', 'Mars/Base');
  assert.equal(odd.code, 1);
  assert.match(odd.err, /no time zone "Mars\/Base"/);
});

test('an explanation can be recomputed line by line from its own text', async () => {
  const { code, out } = await berth('explain', ...now(), '--vm', 'shop-*', '--json');
  assert.equal(code, 0);
  const { lines: all, total } = JSON.parse(out) as { lines: { arithmetic: string; cost: string }[]; total: string };
  assert.ok(all.length > 1000);
  let sum = Exact.zero;
  for (const { arithmetic, cost } of all) {
    const [, quantity = '', price = '', product = ''] = /^(\S+) \S+ × (\S+) = (\S+) EUR$/.exec(arithmetic) ?? [];
    assert.ok(Exact.from(quantity).times(Exact.from(price)).equals(Exact.from(product)), arithmetic);
    sum = sum.plus(Exact.from(cost));
  }
  assert.equal(sum.toString(), total);
});

test('comma-separated values keep odd names whole and run nothing in a spreadsheet', async () => {
  const { out } = await berth('report', ...now(), '--by', 'vm', '--csv');
  assert.match(out, /^VM,USAGE,/);
  assert.match(out, /^"zürich, ""files""",/m);
});

test('a card with problems is refused with every line, and so is a wrong usage file', async () => {
  const bad = await put('bad.yaml', 'rate-card: x\nformat: 1\ncurrency: EURO\nversions: []\n');
  const refused = await berth('check', '--card', bad);
  assert.equal(refused.code, 1);
  assert.match(refused.err, /bad.yaml:3:11: .*\n.*bad.yaml:4:11: /);
  assert.match((await berth('check', '--card', card)).out, /house is right: EUR/);
  const lost = await berth('report', '--card', card, '--usage', join(folder, 'none'), '--month', '2026-11');
  assert.match(lost.err, /cannot read .*none: ENOENT/);
});

test('a forecast from the middle of the month is what the month then costs, when nothing changes', async () => {
  const half = await put('half.jsonl', usageFileText('2026-11-20T00:00:00Z'));
  const asked = ['--card', card, '--usage', half, '--month', '2026-11', '--by', 'vm'];
  const expected = await lines('forecast', ...asked);
  const real = await lines('report', ...now(), '--by', 'vm');
  for (const row of expected) {
    const found = real.find((one) => one['vm'] === row['vm']);
    assert.equal(row['forecast'], Exact.from(found?.['cost'] ?? '').toFixed(4), row['vm']);
  }
});

test('what it would cost elsewhere', async () => {
  const text = (await readFile(card, 'utf8'))
    .replace('rate-card: house', 'rate-card: cloud')
    .replaceAll('0.0120', '0.0240');
  const other = await put('cloud.yaml', text);
  const rows = await lines('compare', ...now(), '--with', other, '--by', 'item');
  const cpu = rows.find((row) => row['item'] === 'cpu');
  assert.ok(Exact.from(cpu?.['difference'] ?? '').compare(Exact.zero) > 0);
  assert.equal(rows.find((row) => row['item'] === 'memory')?.['difference'], '0');
  const table = await berth('compare', ...now(), '--with', other, '--by', 'vm');
  assert.match(table.out, /^VM +house EUR +cloud EUR +DIFFERENCE EUR\n/);
});

test('a ledger: rated, closed, corrected by late facts, and reported as it was booked', async () => {
  const ledger = join(folder, 'house.db');
  const rated = await lines('rate', ...now(), '--ledger', ledger);
  assert.ok(Number(rated[0]?.['added']) > 1000);
  assert.deepEqual((await lines('rate', ...now(), '--ledger', ledger))[0], {
    month: '2026-11',
    added: 0,
    replaced: 0,
    removed: 0,
    corrections: 0,
  });
  const fromFile = await lines('report', ...now());
  assert.deepEqual(await lines('report', '--ledger', ledger, '--month', '2026-11'), fromFile);
  assert.match((await berth('close', '--ledger', ledger, '--month', '2026-11')).out, /^2026-11 closed at /);
  const late = usageFileText().replace('"end":"2026-11-03T07:12:01Z"', '"end":"2026-11-03T08:12:01Z"');
  const lateFile = await put('late.jsonl', late);
  const words = ['rate', '--card', card, '--usage', lateFile, '--month', '2026-11', '--ledger', ledger];
  const corrected = await lines(...words, '--book-into', '2026-12');
  assert.ok(Number(corrected[0]?.['corrections']) > 0);
  assert.deepEqual(await lines('report', '--ledger', ledger, '--month', '2026-11'), fromFile);
  const both = await lines('report', '--ledger', ledger, '--month', '2026-11', '--month', '2026-12', '--by', 'vm');
  const lateReport = await lines('report', '--card', card, '--usage', lateFile, '--month', '2026-11', '--by', 'vm');
  assert.equal(both.at(-1)?.['cost'], lateReport.at(-1)?.['cost']);
  const refused = await berth(...words, '--book-into', '2026-11');
  assert.equal(refused.code, 0, 'nothing is left to correct');
  const empty = await berth('rate', '--card', card, '--usage', usage, '--month', '2027-01', '--ledger', ledger);
  assert.match(empty.err, /knows of no VM in 2027-01/);
});

test('budgets tell a webhook and a command once, and again only what could not be told', async () => {
  const heard: string[] = [];
  let status = 500;
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (data: Buffer) => {
      body += data.toString();
    });
    request.on('end', () => {
      heard.push(body);
      response.writeHead(status).end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  const script = await put('page', `#!/bin/sh\ncat >>"${folder}/paged"\necho "$@" >>"${folder}/paged"\n`);
  await chmod(script, 0o755);
  const budgets = (await readFile(card, 'utf8'))
    .replace('https://hooks.example.com/budget', `http://127.0.0.1:${port}/hook`)
    .replace('/usr/local/bin/page', script)
    .replace('amount: 400', 'amount: 100');
  const words = ['budgets', '--card', await put('budgets.yaml', budgets), '--usage', usage, '--month', '2026-11'];
  const notify = ['--notify', join(folder, 'told.json')];
  try {
    const first = await berth(...words, ...notify);
    assert.equal(first.code, 1);
    assert.match(first.err, /nobody could be told: the webhook answered 500/);
    assert.match(first.out, /^BUDGET +AMOUNT EUR +SPENT +FORECAST +USED\nshop +100\.00 /);
    status = 204;
    assert.equal((await berth(...words, ...notify)).code, 0);
    assert.equal((await berth(...words, ...notify)).code, 0);
  } finally {
    server.close();
  }
  assert.equal(heard.length, 2);
  assert.equal((JSON.parse(heard[1] ?? '') as { budget: string }).budget, 'shop');
  const paged = await readFile(join(folder, 'paged'), 'utf8');
  assert.match(paged, /^\{"berth":"budget-alert",.*"of":"forecast".*\}\n--team shop\n$/);
});

test('FOCUS files of every version and form, checked by the rules and described by their schema', async () => {
  for (const version of ['1.2', '1.3', '1.4']) {
    const path = join(folder, `focus-${version}.csv`);
    const done = await berth('export', ...now(), '--focus', version, '--out', path, '--issuer', 'Our IT');
    assert.equal(done.code, 0, done.err);
    const checked = await berth('validate', '--file', path, '--focus', version);
    assert.match(checked.out, /: \d+ passed\nconformant as far as checked\n$/);
    assert.equal(checked.code, 0);
    const schema = JSON.parse(await readFile(`${path}.schema.json`, 'utf8')) as {
      FocusVersion: string;
      ColumnDefinition: unknown[];
    };
    assert.equal(schema.FocusVersion, version);
    assert.equal(schema.ColumnDefinition.length, (await readFile(path, 'utf8')).split('\r\n')[0]?.split(',').length);
    const broken = await put('broken.csv', (await readFile(path, 'utf8')).replace(',Usage,', ',Use,'));
    const refused = await berth('validate', '--file', broken, '--focus', version);
    assert.equal(refused.code, 1);
    assert.match(refused.out, /^failed {2}ChargeCategory: has an allowed value \(1 row: 1\)\n/m);
  }
  for (const form of ['json', 'parquet']) {
    const path = join(folder, `focus.${form}`);
    assert.equal((await berth('export', ...now(), '--as', form, '--out', path)).code, 0);
    const bytes = await readFile(path);
    if (form === 'parquet') assert.equal(bytes.subarray(0, 4).toString(), 'PAR1');
    else assert.ok((JSON.parse(bytes.toString()) as unknown[]).length > 1000);
  }
});

test('a ledger in PostgreSQL books and reports the same', async () => {
  const postgres = await startPostgres();
  try {
    const ledger = postgres.newDatabase();
    await lines('rate', ...now(), '--ledger', ledger);
    assert.deepEqual(await lines('report', '--ledger', ledger, '--month', '2026-11'), await lines('report', ...now()));
  } finally {
    await postgres.stop();
  }
});

test('counters from a sample store cost what they cost from the file, however often they are ingested', async () => {
  const store = join(folder, 'samples');
  for (const known of ['0', '31']) {
    const { out, err } = await berth('ingest', '--usage', usage, '--samples', store);
    assert.equal(out, `31 readings, ${known} counters known before\n`, err);
  }
  const fromStore = await lines('report', ...now(), '--samples', store, '--by', 'item');
  // A store knows hours: where a price changes within one, a byte more or less is on either side.
  const cents = (rows: readonly Record<string, string>[]): string[] =>
    rows.map((row) => `${row['item']} ${Exact.from(row['cost'] ?? '').toFixed(6)}`);
  assert.deepEqual(cents(fromStore), cents(await lines('report', ...now(), '--by', 'item')));
  assert.ok(Number(fromStore.find((row) => row['item'] === 'traffic')?.['usage']) > 0);
});

test('usage mistakes are said with what to do', async () => {
  assert.match((await berth('dance')).err, /unknown command: berth cost dance/);
  assert.match((await berth('report', '--usage', usage)).err, /--card is missing/);
  assert.match((await berth('report', ...now(), '--by', 'colour')).err, /cannot add up by "colour"/);
  assert.equal((await berth('report', ...now(), '--month', '2026-13')).code, 125);
});
