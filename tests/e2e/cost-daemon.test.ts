/** The daemon reckons by itself: a ledger, metrics, budgets, months that close; killed in between, and with PostgreSQL. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { findProcesses, runProcess, signalProcess } from '#platform';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { parseMetrics } from '../harness/metrics.ts';
import { writePast } from '../harness/past-fleet.ts';
import { startPostgres } from '../harness/postgres.ts';
import { eventually } from '../harness/vm-client.ts';

const BERTH = new URL('../../berth', import.meta.url).pathname;
const MONEY = new URL('../../.build/daemon/money.mjs', import.meta.url).pathname;
const DAY_MS = 86_400_000;
const now = new Date();
const START_MS = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - 1);
const LAST_MONTH = new Date(START_MS).toISOString().slice(0, 7);
const THIS_MONTH = now.toISOString().slice(0, 7);

let daemon: TestDaemon;
let folder: string;
let hook: Server;
const alerts: { budget: string; period: string; id: string }[] = [];

/** An hour of one processor costs 1 EUR. */
function cardText(price = '1'): string {
  const url = `http://127.0.0.1:${(hook.address() as AddressInfo).port}/`;
  return `rate-card: house
format: 1
currency: EUR
charge-per: day
month: calendar
versions:
  - version: only
    effective: { from: 2020-01-01 }
    items:
      - { id: cpu, resource: vcpu, unit: vcpu-hour, price: ${price} }
    idle: { share: none }
    overhead: { share: none }
attribution:
  - { project: shop, owner: anna, when: { name: "ledger*" }, effective: { from: 2020-01-01, to: ${new Date(START_MS + 5 * DAY_MS).toISOString().slice(0, 10)} } }
  - { project: shop, owner: bert, when: { name: "ledger*" }, effective: { from: ${new Date(START_MS + 5 * DAY_MS).toISOString().slice(0, 10)} } }
budgets:
  - name: tiny
    amount: 0.000001
    select: { project: shop }
    alerts:
      - { at: 80%, webhook: "${url}" }
      - { at: 100%, webhook: "${url}" }
`;
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'berth-cost-daemon-'));
  hook = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    request.on('end', () => {
      alerts.push(JSON.parse(text) as (typeof alerts)[number]);
      response.end();
    });
  });
  await new Promise<void>((resolve) => hook.listen(0, '127.0.0.1', resolve));
  daemon = await startTestDaemon({ env: { BERTH_POOL: 'off' } });
});

after(async () => {
  const leaks = await daemon.dispose();
  hook.closeAllConnections();
  await new Promise((resolve) => hook.close(resolve));
  rmSync(folder, { recursive: true, force: true });
  assert.deepEqual(leaks, []);
});

async function berth(...words: string[]) {
  return await runProcess([BERTH, '--socket', daemon.socket, ...words], {
    env: { ...process.env, TZ: 'UTC' } as Record<string, string>,
  });
}

async function said(...words: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await berth(...words);
  assert.equal(exitCode, 0, `berth ${words.join(' ')}: ${stderr}`);
  return stdout;
}

/** In EUR, by whatever the report adds up by. */
async function costs(by: string, ...words: string[]): Promise<Record<string, string>> {
  const lines = (await said('cost', 'report', '--by', by, '--json', ...words)).trimEnd().split('\n');
  return Object.fromEntries(
    lines.map((line) => JSON.parse(line) as Record<string, string>).map((row) => [row[by], row['cost']]),
  );
}

async function past(...days: number[]): Promise<void> {
  await daemon.stop();
  for (const day of days) writePast(daemon.stateDir, START_MS + day * DAY_MS);
  await daemon.start();
}

test('without a rate card nothing is rated, and none of it is in the daemon', async () => {
  const status = JSON.parse(await said('cost', 'status', '--json')) as Record<string, unknown>;
  assert.deepEqual(status, { hasCard: false, ledger: 'sqlite', ratedMs: null, problem: null, summary: null });
  assert.ok(!existsSync(join(daemon.stateDir, 'money')));
  assert.doesNotMatch(String((await daemon.call('GET', '/metrics')).body), /cost/);
  const refused = await berth('cost', 'rate');
  assert.equal(refused.exitCode, 1);
  assert.match(refused.stderr, /no rate card[\s\S]*berth cost card set FILE/);
  const bundle = readFileSync(new URL('../../.build/daemon/main.mjs', import.meta.url), 'utf8');
  assert.doesNotMatch(bundle, /quantity-decimals|planCorrections/, 'the code that reckons is in another file');
});

test('a card that is wrong is refused with its lines, and none is in force then', async () => {
  const path = join(folder, 'wrong.yaml');
  writeFileSync(path, 'rate-card: x\nformat: 1\ncurrency: EURO\nversions: []\n');
  const refused = await berth('cost', 'card', 'set', path);
  assert.equal(refused.exitCode, 1);
  assert.match(refused.stderr, /:3:11:/);
  assert.match((await berth('cost', 'card', 'show')).stderr, /no rate card/);
});

test('with a card the daemon rates by itself, and a report needs no file', async () => {
  await past(0, 9);
  const path = join(folder, 'card.yaml');
  writeFileSync(path, cardText());
  assert.match(await said('cost', 'card', 'set', path), /house \(EUR\) is in force/);
  await eventually('it was rated without being asked', 60_000, async () =>
    Object.keys(await costs('project', '--month', LAST_MONTH)).includes('shop'),
  );
  assert.deepEqual(await costs('project', '--month', LAST_MONTH), { shop: '216', total: '216' });
  assert.deepEqual(await costs('owner', '--month', LAST_MONTH), { anna: '120', bert: '96', total: '216' });
  const same = await said(
    'cost',
    'report',
    '--ledger',
    join(daemon.stateDir, 'money/ledger.db'),
    '--month',
    LAST_MONTH,
  );
  assert.equal(await said('cost', 'report', '--month', LAST_MONTH), same);
  assert.equal(statSync(join(daemon.stateDir, 'money')).mode & 0o777, 0o700);
});

test('explain, export, forecast and budgets need no file either, and say what they say of the same ledger and card', async () => {
  const place = ['--ledger', join(daemon.stateDir, 'money/ledger.db')];
  const month = ['--month', LAST_MONTH];
  const explained = await said('cost', 'explain', ...month);
  assert.equal(explained, await said('cost', 'explain', ...month, ...place));
  assert.match(explained, /216/);
  const paths = ['daemon', 'file'].map((name) => join(folder, `${name}.csv`)) as [string, string];
  await said('cost', 'export', ...month, '--out', paths[0]);
  await said('cost', 'export', ...month, '--out', paths[1], ...place);
  assert.equal(readFileSync(paths[0], 'utf8'), readFileSync(paths[1], 'utf8'));
  assert.ok(readFileSync(paths[0], 'utf8').split('\n').length > 5);
  const cheaper = join(folder, 'cheaper.yaml');
  writeFileSync(cheaper, cardText('0.5'));
  const compared = await said('cost', 'compare', '--with', cheaper, ...month, '--by', 'project', '--json');
  const shop = JSON.parse(compared.split('\n')[0] ?? '') as Record<string, string>;
  assert.deepEqual([shop['first'], shop['second']], ['216', '108']);
  assert.match(await said('cost', 'forecast', ...month, '--json'), /"project":"shop"/);
  assert.match(await said('cost', 'budgets', ...month, '--json'), /"budget":"tiny"/);
});

test('rated again and killed in the middle, daemon and all, the ledger holds every charge once', async () => {
  for (let round = 0; round < 8; round += 1) {
    const reckoning = async () => (await findProcesses(MONEY)).map((one) => one.pid);
    let asked: Promise<unknown> = Promise.resolve();
    let pids: number[] = [];
    // It takes a fraction of a second: asked until it is met, at a moment that differs each time. Where it was over by then, sooner.
    let momentMs = 20 + round * 30;
    for (const until = Date.now() + 30_000; pids.length === 0 && Date.now() < until; pids = await reckoning()) {
      await asked;
      asked = daemon.call('POST', '/berth/v1/cost/rate', {}).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, momentMs));
      momentMs = Math.max(10, momentMs * 0.8);
    }
    assert.ok(pids.length > 0, 'it was met while it reckoned');
    if (round % 2 === 0) await daemon.crash();
    for (const pid of pids) signalProcess(pid, 'SIGKILL');
    await asked;
    if (round % 2 === 0) await daemon.start();
  }
  await said('cost', 'rate');
  assert.deepEqual(await costs('owner', '--month', LAST_MONTH), { anna: '120', bert: '96', total: '216' });
  const again = (await daemon.call('POST', '/berth/v1/cost/rate', { months: [LAST_MONTH] })).body as {
    months: Record<string, unknown>[];
  };
  const { added, replaced, removed, corrections } = again.months[0] ?? {};
  assert.deepEqual({ added, replaced, removed, corrections }, { added: 0, replaced: 0, removed: 0, corrections: 0 });
});

test('a month that is over is closed; what is found later is a correction in this one, at the price it was closed with', async () => {
  const early = await berth('cost', 'close', '--month', THIS_MONTH);
  assert.equal(early.exitCode, 1);
  assert.match(early.stderr, /is not over/);
  assert.match(await said('cost', 'close', '--month', LAST_MONTH), /closed at/);
  await past(14);
  const path = join(folder, 'dearer.yaml');
  writeFileSync(path, cardText('5'));
  await said('cost', 'card', 'set', path);
  // A new card rates at once, by itself; asked again, there is nothing left to correct.
  await said('cost', 'rate', '--month', LAST_MONTH);
  assert.deepEqual(await costs('project', '--month', LAST_MONTH), { shop: '216', total: '216' });
  const lines = (await said('cost', 'report', '--by', 'month', '--month', THIS_MONTH, '--json')).trimEnd().split('\n');
  const late = lines
    .map((line) => JSON.parse(line) as Record<string, string>)
    .find((row) => row['month'] === LAST_MONTH);
  assert.equal(late?.['correction'], '120', 'five days at 1 EUR, not at 5');
  assert.match(await said('cost', 'rate', '--month', LAST_MONTH), /, 0 corrections/);
});

test('metrics tell the month so far by VM, host and project, as strictly as Prometheus reads', async () => {
  // Up to now, so that the current month has something.
  await daemon.stop();
  writePast(daemon.stateDir, Date.now());
  await daemon.start();
  await said('cost', 'rate');
  const families = parseMetrics(String((await daemon.call('GET', '/metrics')).body));
  const series = (name: string) => families.find((family) => family.name === name)?.series ?? [];
  const [project] = series('berth_project_cost_month_to_date').filter((one) => one.labels['project'] === 'shop');
  const vm = series('berth_vm_cost_month_to_date').find((one) => one.labels['name'] === 'ledgered');
  assert.ok(project !== undefined && project.value > 0);
  assert.equal(vm?.value, project.value);
  assert.deepEqual([vm?.labels['currency'], vm?.labels['month'], vm?.labels['project']], ['EUR', THIS_MONTH, 'shop']);
  const sum = (name: string): number => series(name).reduce((total, one) => total + one.value, 0);
  assert.ok(Math.abs(sum('berth_vm_cost_month_to_date') - sum('berth_project_cost_month_to_date')) < 1e-4);
  assert.ok(sum('berth_host_cost_month_to_date') > 0);
  assert.ok((series('berth_budget_used_ratio')[0]?.value ?? 0) > 1);
  await daemon.restart();
  assert.match(String((await daemon.call('GET', '/metrics')).body), /berth_project_cost_month_to_date/);
});

test('each threshold of a budget is told once in a month, whatever happens in between', async () => {
  await eventually('both thresholds were told', 60_000, async () => {
    await said('cost', 'rate');
    return alerts.length >= 2;
  });
  await daemon.crash();
  await daemon.start();
  for (let round = 0; round < 3; round += 1) await said('cost', 'rate');
  assert.equal(alerts.length, 2, JSON.stringify(alerts));
  assert.deepEqual(new Set(alerts.map((one) => one.period)), new Set([THIS_MONTH]));
  assert.equal(new Set(alerts.map((one) => one.id)).size, 2, 'each says which it is');
});

test('the month as a page comes through the API, whole', async () => {
  const path = join(folder, 'month.html');
  await said('cost', 'html', '--month', LAST_MONTH, '--out', path);
  const html = readFileSync(path, 'utf8');
  assert.match(html, /^<!doctype html>/i);
  assert.match(html, /ledgered/);
  assert.match(html, /<\/html>\s*$/);
});

test('PostgreSQL is the ledger when a file names it, and its address is in no command line and no answer', async () => {
  const postgres = await startPostgres();
  try {
    const address = join(folder, 'address');
    writeFileSync(address, `${postgres.newDatabase()}\n`, { mode: 0o600 });
    await said('cost', 'ledger', 'set', address);
    const rating = said('cost', 'rate', '--month', LAST_MONTH);
    const seen: string[] = [];
    await eventually('it reckons', 20_000, async () => {
      seen.push(...(await findProcesses(MONEY)).map((one) => one.argv.join(' ')));
      return seen.length > 0;
    });
    await rating;
    assert.ok(seen.every((line) => !line.includes('postgres://')));
    // Open there, so that the card in force counts; by now the whole month is known.
    const whole = String(((Date.UTC(now.getUTCFullYear(), now.getUTCMonth()) - START_MS) / 3_600_000) * 5);
    assert.deepEqual(await costs('project', '--month', LAST_MONTH), { shop: whole, total: whole });
    const status = await said('cost', 'status', '--json');
    assert.equal((JSON.parse(status) as { ledger: string }).ledger, 'postgres');
    assert.ok(!status.includes('postgres://'));
    assert.equal(statSync(join(daemon.stateDir, 'money/ledger-address')).mode & 0o777, 0o600);
    await said('cost', 'ledger', 'rm');
    assert.deepEqual(await costs('project', '--month', LAST_MONTH), { shop: '216', total: '216' });
  } finally {
    await postgres.stop();
  }
});
