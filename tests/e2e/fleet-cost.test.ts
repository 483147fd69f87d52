/** From what hypervisors say to money: the fleet's history is what `berth cost` reckons with. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { runProcess } from '#platform';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { type RunningLibvirt, startLibvirt } from '../harness/libvirt.ts';
import { createVm, eventually, startVm } from '../harness/vm-client.ts';

const BERTH = new URL('../../berth', import.meta.url).pathname;
/** A second of one vCPU costs 1 EUR, so that sums can be read. */
const CARD = `rate-card: test
format: 1
currency: EUR
rounding: { quantity-decimals: 12, mode: half-even }
charge-per: day
month: calendar
versions:
  - version: only
    effective: { from: 2026-01-01 }
    items:
      - { id: cpu, resource: vcpu, unit: vcpu-hour, price: 3600 }
      - { id: memory, resource: memory, unit: GiB-hour, price: 0 }
      - { id: disk, resource: disk, unit: GiB-month, price: 0 }
    idle: { share: none }
    overhead: { share: none }
attribution:
  - { project: lab, when: { source: lab }, effective: { from: 2026-01-01 } }
  - { project: own, when: { source: "berth*" }, effective: { from: 2026-01-01 } }
`;

interface Fact {
  readonly type: string;
  readonly name: string;
  readonly source: string;
  readonly power: string;
  readonly vcpus: number;
  readonly start: string;
  readonly end: string;
}

let daemon: TestDaemon;
let libvirt: RunningLibvirt;
let folder: string;
let card: string;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'berth-fleet-cost-'));
  card = join(folder, 'card.yaml');
  writeFileSync(card, CARD);
  [daemon, libvirt] = await Promise.all([startTestDaemon({ env: { BERTH_POOL: 'off' } }), startLibvirt()]);
  await said('source', 'add', 'lab', `test+unix:///default?socket=${libvirt.socket}`);
  await createVm(daemon, 'mine', 'exec sleep 600');
  await startVm(daemon, 'mine');
});

after(async () => {
  await libvirt.dispose();
  const leaks = await daemon.dispose();
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

/** Sources that tell of changes are looked at every five minutes, and what they have confirmed ends there. */
async function facts(): Promise<Fact[]> {
  for (const source of (await daemon.call('GET', '/berth/v1/sources')).body as { name: string }[])
    assert.equal((await daemon.call('POST', `/berth/v1/sources/${source.name}/refresh`)).status, 204);
  const lines = (await said('fleet', 'usage')).trimEnd().split('\n');
  assert.deepEqual(JSON.parse(lines[0] ?? ''), { berth: 'usage', version: 1 });
  return lines.slice(1).map((line) => JSON.parse(line) as Fact);
}

const secondsOf = (all: readonly Fact[], name: string): number =>
  all
    .filter((one) => one.type === 'interval' && one.name === name && one.power === 'running')
    .reduce((sum, one) => sum + (one.vcpus * (Date.parse(one.end) - Date.parse(one.start))) / 1000, 0);

test('what a VM had, as far as its source has confirmed it, is what it costs, to the cent', async () => {
  await eventually('both VMs have been seen twice', 90_000, async () => {
    const all = await facts();
    return secondsOf(all, 'test') > 1 && secondsOf(all, 'mine') > 1;
  });
  const file = join(folder, 'usage.jsonl');
  writeFileSync(file, await said('fleet', 'usage'));
  const kept = readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .slice(1)
    .map((line) => JSON.parse(line) as Fact);
  assert.ok(kept.some((one) => one.type === 'host' && one.source === 'lab'));
  for (const one of kept) assert.ok(Date.parse(one.end) <= Date.now(), 'nothing is counted ahead of time');
  const report = await said('cost', 'report', '--card', card, '--usage', file, '--by', 'vm', '--csv');
  for (const name of ['test', 'mine']) {
    const line = report.split('\n').find((one) => one.includes(name)) ?? '';
    const total = Number(/([0-9]+\.[0-9]{2})/.exec(line)?.[1]);
    assert.ok(Math.abs(total - secondsOf(kept, name)) < 0.011, `${line} is not ${secondsOf(kept, name)}`);
  }
});

test('without a file the fleet itself is asked, and more time costs more', async () => {
  const month = new Date().toISOString().slice(0, 7);
  const total = async (): Promise<number> => {
    await facts();
    const text = await said('cost', 'report', '--card', card, '--month', month, '--by', 'project', '--csv');
    return Number(/^lab,.*?([0-9]+\.[0-9]{2})/m.exec(text)?.[1] ?? 0);
  };
  const first = await total();
  assert.ok(first > 0);
  await eventually('the source confirmed more', 90_000, async () => (await total()) > first);
});

test('a VM that was stopped costs no more from then on', async () => {
  await daemon.call('POST', '/containers/mine/kill');
  await eventually('the fleet knows', 90_000, async () =>
    (await facts()).some((one) => one.name === 'mine' && one.power === 'off'),
  );
  const before_ = secondsOf(await facts(), 'mine');
  await eventually('its source was seen again', 90_000, async () => {
    const off = (await facts()).find((one) => one.name === 'mine' && one.power === 'off');
    return off !== undefined && Date.parse(off.end) > Date.parse(off.start);
  });
  assert.equal(secondsOf(await facts(), 'mine'), before_);
});
