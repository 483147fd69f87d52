/** Owners and projects by the dated rules of the daemon's rate card, in every answer of the fleet, through the command line. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '#harness';
import { runProcess } from '#platform';
import { type RunningLibvirt, startLibvirt, writeDomain } from '../harness/libvirt.ts';
import { startVcsim, VCSIM_CREDENTIALS } from '../harness/vcsim.ts';
import { eventually } from '../harness/vm-client.ts';

const BERTH = new URL('../../berth', import.meta.url).pathname;
const TEST = 'test:///default';
const DEADLINE_MS = 20_000;
/** Long enough for what is asked before a rule begins, as well on a loaded machine. */
const SOON_MS = 8_000;

let daemon: TestDaemon;
let libvirt: RunningLibvirt;
let folder: string;

interface Vm {
  readonly name: string;
  readonly owner: string | null;
  readonly project: string | null;
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'berth-owners-'));
  [daemon, libvirt] = await Promise.all([startTestDaemon({ env: { BERTH_POOL: 'off' } }), startLibvirt()]);
  await said('source', 'add', 'lab', `test+unix:///default?socket=${libvirt.socket}`, '--every', '1');
  // libvirt forgets what was defined there when the last connection ends.
  await eventually('the source is up', DEADLINE_MS, async () => (await vms()).length === 1);
  await libvirt.virsh(TEST, 'define', writeDomain(libvirt, { name: 'shop-1', type: 'test' }));
  await eventually('both VMs are known', DEADLINE_MS, async () => (await vms()).length === 2);
});

after(async () => {
  await libvirt.dispose();
  const leaks = await daemon.dispose();
  rmSync(folder, { recursive: true, force: true });
  assert.deepEqual(leaks, []);
});

async function said(...words: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runProcess([BERTH, '--socket', daemon.socket, ...words]);
  assert.equal(exitCode, 0, `berth ${words.join(' ')}: ${stderr}`);
  return stdout;
}

async function rows<T>(...words: string[]): Promise<T[]> {
  return (await said(...words)).split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as T]));
}

const vms = (...words: string[]): Promise<Vm[]> => rows<Vm>('fleet', 'ls', '--json', ...words);
const ownerOf = async (name: string): Promise<string | null | undefined> =>
  (await vms()).find((vm) => vm.name === name)?.owner;

async function setCard(rules: readonly string[]): Promise<void> {
  const card = join(folder, 'card.yaml');
  const text = `rate-card: test
format: 1
currency: EUR
rounding: { quantity-decimals: 12, mode: half-even }
charge-per: day
month: calendar
versions:
  - version: only
    effective: { from: 2026-01-01 }
    items: [{ id: cpu, resource: vcpu, unit: vcpu-hour, price: 1 }]
    idle: { share: none }
    overhead: { share: none }
${rules.length === 0 ? '' : `attribution:\n${rules.map((rule) => `  - ${rule}\n`).join('')}`}`;
  writeFileSync(card, text);
  await said('cost', 'card', 'set', card);
}

const at = (ms: number): string => new Date(ms).toISOString();

test('a rule that begins changes the owner in lists and filters when its time has come, and what was stays', async () => {
  const beganMs = Date.now();
  const soonMs = beganMs + SOON_MS;
  await setCard([
    `{ owner: ann, project: shop, when: { name: "shop-*" }, effective: { from: 2026-01-01, to: ${at(soonMs)} } }`,
    `{ owner: bob, project: shop, when: { name: "shop-*" }, effective: { from: ${at(soonMs)} } }`,
  ]);
  await eventually('the list says ann', DEADLINE_MS, async () => (await ownerOf('shop-1')) === 'ann');
  assert.equal(await ownerOf('test'), null);
  assert.deepEqual(
    (await vms('--filter', 'owner=ann')).map((vm) => [vm.name, vm.project]),
    [['shop-1', 'shop']],
  );
  assert.ok(Date.now() < soonMs, 'the machine is too slow for this test: the rule has begun already');
  await eventually('the list says bob', DEADLINE_MS, async () => (await ownerOf('shop-1')) === 'bob');
  assert.ok(Date.now() >= soonMs);
  assert.deepEqual(await vms('--filter', 'owner=ann'), []);
  assert.deepEqual(
    (await vms('--filter', 'project=shop', '--sort', '-owner')).map((vm) => vm.owner),
    ['bob'],
  );
  assert.match(await said('fleet', 'ls'), /shop-1 .* bob$/m);
  assert.match(await said('fleet', 'tree'), /shop-1 {2}.*, bob$/m);
  assert.equal((JSON.parse(await said('fleet', 'show', 'shop-1')) as Vm).owner, 'bob');
  assert.deepEqual(
    (await rows<Vm>('fleet', 'search', 'shop-1', '--json')).map((vm) => vm.owner),
    ['bob'],
  );
  for (const [ms, owner] of [
    [soonMs - 1, 'ann'],
    [soonMs, 'bob'],
  ] as const) {
    const estate = await rows<Vm>('fleet', 'at', at(ms), '--json');
    assert.equal(estate.find((vm) => vm.name === 'shop-1')?.owner, owner);
  }
  const history = await rows<Vm & { opened: { atMs: number; how: string } }>('fleet', 'history', 'shop-1', '--json');
  assert.deepEqual(
    history.map((one) => one.owner),
    ['ann', 'bob'],
  );
  assert.deepEqual([history[1]?.opened.atMs, history[1]?.opened.how], [soonMs, 'rule']);
  const usage = async () =>
    (await rows<Vm & { type: string; start: string; end: string }>('fleet', 'usage')).filter(
      (fact) => fact.type === 'interval' && fact.name === 'shop-1',
    );
  await eventually('the source has confirmed more than the rule', DEADLINE_MS, async () => {
    await daemon.call('POST', '/berth/v1/sources/lab/refresh');
    return (await usage()).length === 2;
  });
  const [first, second] = await usage();
  assert.deepEqual([first?.owner, first?.end, second?.owner, second?.start], ['ann', at(soonMs), 'bob', at(soonMs)]);
});

test('another card takes effect, over a restart as well; without one tags say it', async () => {
  await setCard([`{ owner: cleo, when: { source: lab }, effective: { from: 2026-01-01 } }`]);
  await eventually('cleo has all', DEADLINE_MS, async () => (await vms('--filter', 'owner=cleo')).length === 2);
  await daemon.crash();
  await daemon.start();
  assert.equal(await ownerOf('test'), 'cleo');
  await setCard([]);
  await eventually('nobody has any', DEADLINE_MS, async () => (await vms('--filter', 'owner=cleo')).length === 0);
  await setCard([`{ owner: dora, when: { name: test }, effective: { from: 2026-01-01 } }`]);
  await eventually('dora has one', DEADLINE_MS, async () => (await ownerOf('test')) === 'dora');
  await said('cost', 'card', 'rm');
  await eventually('tags say nothing', DEADLINE_MS, async () => (await ownerOf('test')) === null);
});

test('a rule over a tag of vCenter says whose a VM is, and the test of the source says that tags are read', async () => {
  const vcsim = await startVcsim(1, 2);
  try {
    const [first, second] = (await vcsim.list()).map((vm) => vm.name);
    for (const words of ['category tier', 'tag tier gold', `attach ${first} tier gold`])
      await vcsim.ask(...words.split(' '));
    await setCard([`{ owner: rich, project: mint, when: { tag: { tier: gold } }, effective: { from: 2026-01-01 } }`]);
    const file = join(folder, 'credentials.json');
    writeFileSync(file, JSON.stringify(VCSIM_CREDENTIALS), { mode: 0o600 });
    const how = ['--credentials-file', file, '--pin', `sha256:${vcsim.pin}`];
    await said('source', 'add', 'vc', vcsim.url.href, ...how);
    await eventually('it is theirs', DEADLINE_MS, async () => (await ownerOf(first ?? '')) === 'rich');
    assert.equal(await ownerOf(second ?? ''), null);
    assert.deepEqual(
      (await vms('--filter', 'tag=tier=gold')).map((vm) => [vm.name, vm.project]),
      [[first, 'mint']],
    );
    assert.match(await said('source', 'test', 'vc'), /^ok +tags +1 on 1 VMs$/m);
    await vcsim.ask('tagging', '403');
    const tried = await runProcess([BERTH, '--socket', daemon.socket, 'source', 'test', 'vc']);
    assert.equal(tried.exitCode, 1);
    assert.match(tried.stdout, /^ok +inventory +1 hosts, 2 VMs$/m);
    assert.match(tried.stdout, /^refused +tags +the tagging service .* status 403/m);
    await said('source', 'rm', 'vc');
    await eventually('no session is left', DEADLINE_MS, async () => (await vcsim.ask('sessions')) === 0);
  } finally {
    await vcsim.kill();
  }
});
