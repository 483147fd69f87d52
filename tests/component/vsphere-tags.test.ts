/**
 * Tags of vCenter's tagging service against vcsim's, which serves /rest. The newer form, /api, is a STAND-IN that translates
 * into it (tests/harness/vcsim/tagging.go).
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { type Check, Fleet, type OwnerRules, vmNumber } from '#fleet';
import { vsphereDriverWith } from '../../src/fleet/drivers/vsphere/vsphere-driver.ts';
import { type RunningVcsim, startVcsim, VCSIM_CREDENTIALS } from '../harness/vcsim.ts';
import { eventually } from '../harness/vm-client.ts';

const DEADLINE_MS = 20_000;
const VM = 'ha-host0_VM0';
const driver = vsphereDriverWith({ tagsEveryMs: 200 });

describe('tags of vSphere (vcsim)', () => {
  let vcsim: RunningVcsim;
  let fleet: Fleet;
  let folder: string;
  let names: readonly string[];

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'berth-tags-'));
    await start(2);
  });

  afterEach(async () => {
    await fleet.close();
    await vcsim.kill();
    rmSync(folder, { recursive: true, force: true });
  });

  async function start(hosts: number | 'esx', vmsPerHost = 2): Promise<void> {
    vcsim = await startVcsim(hosts, vmsPerHost);
    names = (await vcsim.list()).map((vm) => vm.name).sort();
    fleet = await open();
  }

  async function restartAs(hosts: number | 'esx', vmsPerHost?: number): Promise<void> {
    await fleet.close();
    await vcsim.kill();
    await start(hosts, vmsPerHost);
  }

  const open = (): Promise<Fleet> => Fleet.open({ folder, drivers: [driver], holder: 'test', log: () => {} });

  async function add(password = VCSIM_CREDENTIALS.password): Promise<void> {
    const { url, pin } = vcsim;
    fleet.addSource({ name: 'vc', url: url.href, pin, credentials: { ...VCSIM_CREDENTIALS, password } });
    await up();
  }

  const up = (): Promise<unknown> =>
    eventually('the source is up', DEADLINE_MS, async () => fleet.sources()[0]?.state === 'up');
  const vmOf = (name: string) => fleet.queries.find(name);
  const tagsOf = (name: string): string => vmOf(name).facts.tags.join(' ');
  /** Without what vcsim's own events tell of the time before. */
  const historyOf = (name: string) =>
    fleet.past.ofVm(vmNumber(vmOf(name).id), { limit: 20 }).items.filter((one) => one.opened.how !== 'told');
  const becomes = (name: string, tags: string): Promise<unknown> =>
    eventually(`${name} has the tags "${tags}"`, DEADLINE_MS, async () => tagsOf(name) === tags);
  const checkOf = async (what: string): Promise<Check | undefined> =>
    (await fleet.testSource('vc')).find((check) => check.what === what);
  const say = (words: string): Promise<unknown> => vcsim.ask(...words.split(' '));
  const make = async (...tags: readonly string[]): Promise<void> => {
    for (const category of new Set(tags.map((tag) => tag.split(' ')[0]))) await say(`category ${category}`);
    for (const tag of tags) await say(`tag ${tag}`);
  };
  const first = (): string => names[0] ?? VM;
  const second = (): string => names[1] ?? VM;

  test('what is attached is a tag by its category, several of one category are one, and what changes is seen without a look', async () => {
    await make('tier gold', 'env test', 'env prod');
    for (const tag of ['tier gold', 'env test', 'env prod']) await say(`attach ${first()} ${tag}`);
    await add();
    await becomes(first(), 'env=prod,test tier=gold');
    assert.equal(tagsOf(second()), '');
    assert.deepEqual(
      fleet.queries.list({ limit: 10, filters: new Map([['tag', ['env']]]) }).items.map((vm) => vm.name),
      [first()],
    );
    const lookedMs = fleet.sources()[0]?.lookBeganMs;
    await say(`detach ${first()} env prod`);
    await becomes(first(), 'env=test tier=gold');
    await say('untag env test');
    await becomes(first(), 'tier=gold');
    await say(`attach ${second()} tier gold`);
    await becomes(second(), 'tier=gold');
    await say(`detach ${first()} tier gold`);
    await becomes(first(), '');
    assert.equal(fleet.sources()[0]?.lookBeganMs, lookedMs, 'no look was needed');
    const drift = fleet.past.drift({ limit: 20 }).items.filter((one) => one.name === first());
    assert.deepEqual(
      drift.map((one) => [one.field, one.how]),
      Array(3).fill(['tags', 'poll']),
      'three changes, and what was there from the beginning is none',
    );
    assert.equal((await checkOf('tags'))?.told, '1 on 1 VMs');
  });

  test('an owner that was there from the beginning cuts no interval, one that changes cuts one, and a restart none', async () => {
    await make('owner ann', 'owner bob');
    await say(`attach ${first()} owner ann`);
    await add();
    await eventually('ann has it', DEADLINE_MS, async () => vmOf(first()).owner === 'ann');
    assert.deepEqual(
      historyOf(first()).map((one) => one.owner),
      ['ann'],
    );
    await say('create late-comer');
    await eventually('it is seen', DEADLINE_MS, async () => fleet.queries.counts().length > 0 && isThere('late-comer'));
    await say('attach late-comer owner bob');
    await eventually('bob has it', DEADLINE_MS, async () => vmOf('late-comer').owner === 'bob');
    await say(`detach ${first()} owner ann`);
    await say(`attach ${first()} owner bob`);
    await eventually('bob has both', DEADLINE_MS, async () => vmOf(first()).owner === 'bob');
    const before = historyOf(first());

    assert.equal(before.at(0)?.owner, 'ann');
    assert.deepEqual([before.at(-1)?.owner, before.at(-1)?.opened.how], ['bob', 'poll']);
    // Until they are read again, tags are those that were known.
    await vcsim.ask('tagging', '503');
    await fleet.close();
    fleet = await open();
    await eventually('it was looked at anew', DEADLINE_MS, async () => (await checkOf('tags'))?.verdict === 'refused');
    await up();
    assert.equal(tagsOf(first()), 'owner=bob');
    await vcsim.ask('tagging', 'open');
    await say(`attach ${second()} owner ann`);
    await becomes(second(), 'owner=ann');
    assert.deepEqual(historyOf(first()), before);
  });

  const isThere = (name: string): boolean => fleet.queries.list({ limit: 50 }).items.some((vm) => vm.name === name);

  test('a custom attribute is a tag from the first look on, one without a value is none, and a category of its name goes before it', async () => {
    await make('env prod');
    await say(`attribute ${first()} owner team-a`);
    await say(`attribute ${first()} env attribute`);
    await say(`attribute ${first()} cost=centre 4711 and more`);
    await say(`attribute ${first()} unset`);
    await add();
    await becomes(first(), 'cost%3Dcentre=4711 and more env=attribute owner=team-a');
    assert.equal(vmOf(first()).owner, 'team-a');
    assert.deepEqual(
      historyOf(first()).map((one) => one.owner),
      ['team-a'],
    );
    assert.equal(tagsOf(second()), '');
    await say(`attach ${first()} env prod`);
    await becomes(first(), 'cost%3Dcentre=4711 and more env=prod owner=team-a');
    await fleet.close();
    fleet = await open();
    await up();
    // vcsim tells nobody who watches: what is other is found by looking.
    await say(`attribute ${first()} owner team-b`);
    await fleet.refresh('vc');
    await becomes(first(), 'cost%3Dcentre=4711 and more env=prod owner=team-b');
    await say(`detach ${first()} env prod`);
    await becomes(first(), 'cost%3Dcentre=4711 and more env=attribute owner=team-b');
    assert.deepEqual(
      historyOf(first()).map((one) => one.owner),
      ['team-a', 'team-b'],
    );
  });

  test('where tags are refused a custom attribute that changed or was unset while nobody looked is not kept as a tag', async () => {
    await say('tagging 403');
    await say(`attribute ${first()} owner team-a`);
    await say(`attribute ${second()} owner team-a`);
    await add();
    await becomes(second(), 'owner=team-a');
    await fleet.close();
    await say(`attribute ${first()} owner team-b`);
    await say(`attribute ${second()} owner`);
    fleet = await open();
    await becomes(first(), 'owner=team-b');
    await becomes(second(), '');
  });

  test('a rule over a tag says whose a VM is, as soon as the tag is known', async () => {
    const rules: OwnerRules = {
      fingerprint: 'by tier',
      cutsMs: [],
      at: ({ tags, told }) => (tags['tier'] === 'gold' ? { owner: 'rich', project: 'mint' } : told),
    };
    fleet.setOwnerRules(rules);
    await make('tier gold');
    await add();
    assert.equal(vmOf(first()).owner, null);
    await say(`attach ${first()} tier gold`);
    await eventually('it is theirs', DEADLINE_MS, async () => vmOf(first()).owner === 'rich');
    await say(`detach ${first()} tier gold`);
    await eventually('it is nobody’s', DEADLINE_MS, async () => vmOf(first()).owner === null);
  });

  for (const fault of ['403', '401', 'login-401', 'login-403'])
    test(`tagging that is refused (${fault}) leaves the source at work, and its test says so`, async () => {
      await make('tier gold');
      await say(`attach ${first()} tier gold`);
      await vcsim.ask('tagging', fault);
      await add();
      const check = await checkOf('tags');
      assert.equal(check?.verdict, 'refused');
      assert.match(
        check?.told ?? '',
        /tagging service .* answered with status 40[13] \(give the user the role Read-only/,
      );
      assert.equal((await checkOf('inventory'))?.verdict, 'ok');
      await say(`rename ${second()} renamed`);
      await eventually('changes are heard', DEADLINE_MS, async () => isThere('renamed'));
      assert.equal(tagsOf(first()), '');
      assert.equal(fleet.sources()[0]?.problem, null);
    });

  test('an ESXi host has no tags, and says so', async () => {
    await restartAs('esx');
    await add();
    assert.ok(names.length > 0 && tagsOf(first()) === '');
    const check = await checkOf('tags');
    assert.deepEqual(
      [check?.verdict, /no tagging service .*404.*an ESXi host has none/.test(check?.told ?? '')],
      ['absent', true],
    );
  });

  test('a session that has expired is made again, none is left behind, and the password is told to nobody', async () => {
    await make('tier gold');
    await add();
    await eventually('it is signed in', DEADLINE_MS, async () => (await vcsim.ask('sessions')) === 1);
    assert.equal(await vcsim.ask('expire'), 1);
    await say(`attach ${first()} tier gold`);
    await becomes(first(), 'tier=gold');
    assert.equal(await vcsim.ask('sessions'), 1);
    await fleet.testSource('vc');
    assert.equal(await vcsim.ask('sessions'), 1, 'the trial left none');
    // SOAP's session ends alone: the other one is closed with it, and one of each is made anew.
    await say('logout');
    await say(`detach ${first()} tier gold`);
    await eventually(
      'the source has noticed',
      DEADLINE_MS,
      async () => fleet.sources()[0]?.problem !== null || tagsOf(first()) === '',
    );
    await becomes(first(), '');
    assert.equal(await vcsim.ask('sessions'), 1);
    assert.ok(!JSON.stringify(fleet.sources()).includes(VCSIM_CREDENTIALS.password));
    await fleet.close();
    assert.equal(await vcsim.ask('sessions'), 0);
    fleet = await open();
  });

  test('the newer form of the API is spoken where the older one is not there (a stand-in)', async () => {
    await make('tier gold', 'env test');
    for (const tag of ['tier gold', 'env test']) await say(`attach ${first()} ${tag}`);
    await vcsim.ask('tagging', 'api');
    await add();
    await becomes(first(), 'env=test tier=gold');
    await fleet.close();
    assert.equal(await vcsim.ask('sessions'), 0);
    fleet = await open();
  });

  test('answers that are wrong or without end change nothing, and are said', async () => {
    await make('tier gold');
    await say(`attach ${first()} tier gold`);
    await add();
    await becomes(first(), 'tier=gold');
    const wrong = [
      'raw {"value":5}',
      'raw {"value":[""]}',
      'raw <html>',
      'raw {"value":[{"tag_id":1}]}',
      'huge',
      '500',
    ];
    for (const fault of wrong) {
      await vcsim.ask('tagging', ...fault.split(' '));
      assert.equal((await checkOf('tags'))?.verdict, 'refused', fault);
      assert.equal(tagsOf(first()), 'tier=gold', fault);
    }
    assert.equal(fleet.sources()[0]?.state, 'up');
  });

  test('readings ask by tags and not by VMs, and none is in the way of the first look', async () => {
    await restartAs(3, 400);
    await make('owner ann');
    await say('attach * owner ann');
    await add();
    const all = (): number => fleet.queries.list({ limit: 1, filters: new Map([['tag', ['owner=ann']]]) }).items.length;
    await eventually('one is known', DEADLINE_MS, async () => all() === 1);
    await eventually('all are known', DEADLINE_MS, async () => names.every((name) => tagsOf(name) === 'owner=ann'));
    const before = Number(await vcsim.ask('calls'));
    assert.ok(names.length === 1_200 && before < 200, `${before} calls for ${names.length} VMs`);
    assert.ok(
      names.every((name) => historyOf(name).length === 1),
      'no interval was cut',
    );
  });
});
