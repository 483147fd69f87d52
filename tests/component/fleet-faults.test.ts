/** The fleet when things go wrong: sources that are cut, stall, or refuse; and SIGKILL in the middle of writing. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Fleet, type Source, vsphereDriver } from '#fleet';
import { someVm } from '../../src/fleet/fixture.ts';
import { Inventory } from '../../src/fleet/inventory/inventory.ts';
import { SourceTable } from '../../src/fleet/inventory/sources.ts';
import { startTcpFaultProxy, type TcpFaultProxy } from '../harness/tcp-fault-proxy.ts';
import { type RunningVcsim, startVcsim, VCSIM_CREDENTIALS } from '../harness/vcsim.ts';
import { eventually } from '../harness/vm-client.ts';

const DEADLINE_MS = 30_000;
const WRITER = new URL('../harness/fleet-writer.ts', import.meta.url).pathname;

describe('a vCenter behind a bad line', () => {
  let vcsim: RunningVcsim;
  let proxy: TcpFaultProxy;
  let fleet: Fleet;
  let folder: string;
  const log: string[] = [];

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'berth-faults-'));
    vcsim = await startVcsim(2, 300);
    proxy = await startTcpFaultProxy(Number(vcsim.url.port));
    fleet = await Fleet.open({ folder, drivers: [vsphereDriver], holder: 'test', log: (line) => log.push(line) });
  });

  after(async () => {
    await fleet.close();
    await proxy.close();
    await vcsim.kill();
    rmSync(folder, { recursive: true, force: true });
  });

  const add = (name: string, password = VCSIM_CREDENTIALS.password): Source =>
    fleet.addSource({
      name,
      url: `vsphere://127.0.0.1:${proxy.port}/`,
      pin: vcsim.pin,
      credentials: { ...VCSIM_CREDENTIALS, password },
    });
  const source = (name: string): Source | undefined => fleet.sources().find((one) => one.name === name);
  const becomes = (name: string, state: Source['state']): Promise<unknown> =>
    eventually(`${name} is ${state}`, DEADLINE_MS, async () => source(name)?.state === state);
  const count = (): number => fleet.queries.counts().reduce((sum, one) => sum + one.vms, 0);

  test('a wrong password is said, shown nowhere, and not tried again at once', async () => {
    add('wrong', 'not-the-password');
    await becomes('wrong', 'down');
    assert.equal(source('wrong')?.problem?.kind, 'unauthenticated');
    const tries = log.length;
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    assert.equal(log.length, tries, 'accounts are locked after a few tries');
    assert.ok(!JSON.stringify([log, fleet.sources()]).includes('not-the-password'));
    await fleet.removeSource('wrong');
  });

  test('an answer that breaks off in the middle of a look takes no VM away', async () => {
    add('vc');
    await becomes('vc', 'up');
    assert.equal(count(), 600);
    proxy.cutAfter(400_000);
    fleet.refresh('vc');
    await becomes('vc', 'down');
    assert.equal(count(), 600);
    assert.ok(fleet.queries.list({ limit: 5 }).items.every((vm) => vm.isStale));
    proxy.cutAfter(Number.POSITIVE_INFINITY);
    await becomes('vc', 'up');
    assert.equal(count(), 600);
    assert.equal(fleet.past.at(Date.now(), { limit: 1_000 }).items.length, 600, 'one interval each, none ended');
  });

  test('a line that comes and goes: what changed meanwhile is found, once', async () => {
    const [one] = await vcsim.list();
    for (let round = 0; round < 3; round += 1) {
      proxy.cutAfter(0);
      await becomes('vc', 'down');
      if (round === 1) await vcsim.ask('stop', one?.name ?? '');
      proxy.cutAfter(Number.POSITIVE_INFINITY);
      fleet.refresh('vc');
      await becomes('vc', 'up');
    }
    const vm = fleet.queries.find(one?.id ?? '');
    assert.equal(vm.facts.powerState, 'off');
    const history = fleet.past.ofVm(Number(vm.id.slice(1)), { limit: 10 }).items;
    assert.deepEqual(
      history.map((interval) => [interval.powerState, interval.opened.how]),
      [
        ['running', 'poll'],
        ['off', 'poll'],
      ],
    );
    const [, off] = history;
    assert.ok(off !== undefined && off.opened.notBeforeMs < off.opened.atMs, 'how long it was not looked at is known');
  });

  test('a source that has stopped answering does not keep the daemon from leaving', async () => {
    proxy.stall(true);
    fleet.refresh('vc');
    await new Promise((resolve) => setTimeout(resolve, 200));
    const began = performance.now();
    await fleet.close();
    assert.ok(performance.now() - began < 5_000, `${performance.now() - began} ms`);
    proxy.stall(false);
    fleet = await Fleet.open({ folder, drivers: [vsphereDriver], holder: 'test', log: (line) => log.push(line) });
    await becomes('vc', 'up');
    assert.equal(count(), 600);
  });
});

test('SIGKILL at any moment: an observation is whole or it was not made', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-kill-'));
  const path = join(folder, 'fleet.db');
  let generations = 0;
  for (let round = 0; round < 12; round += 1) {
    const writer = spawn(process.execPath, [WRITER, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = once(writer, 'exit');
    let seen = 0;
    await new Promise<void>((resolve) => {
      writer.stdout.on('data', (chunk: Buffer) => {
        seen += chunk.toString().split('\n').length - 1;
        // After a few generations, and then a moment that differs each time: somewhere within a transaction.
        if (seen > 1 + (round % 3)) setTimeout(resolve, (round * 7) % 23);
      });
    });
    writer.kill('SIGKILL');
    await ended;
    generations += seen;
    const { database } = Inventory.open(path);
    const live = database.all<{ vcpus: number; open: number }>(
      `SELECT vcpus, (SELECT COUNT(*) FROM interval WHERE vm_id = vm.id AND closed_ms IS NULL) AS open FROM vm WHERE gone_ms IS NULL`,
    );
    assert.equal(live.length, 150);
    assert.equal(new Set(live.map((vm) => vm.vcpus)).size, 1, 'all VMs are of one generation');
    assert.ok(live.every((vm) => vm.open === 1));
    const torn = database.all(
      `SELECT 1 FROM interval i JOIN vm ON vm.id = i.vm_id WHERE i.closed_ms IS NULL AND vm.gone_ms IS NOT NULL`,
    );
    assert.deepEqual(torn, []);
    assert.deepEqual(
      database.all('PRAGMA integrity_check').map((row) => Object.values(row as object)),
      [['ok']],
    );
    database.close();
  }
  assert.ok(generations > 24, `${generations} generations`);
  rmSync(folder, { recursive: true });
});

test('a full disk refuses an observation whole, what was known stays, and it is written once there is room', () => {
  const small = mkdtempSync(join(tmpdir(), 'berth-full-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'berth-test', small]);
  try {
    const inventory = Inventory.open(join(small, 'fleet.db'));
    const fresh = { name: 'a', url: 'test:///', driver: 'test', sealedSecret: null, pin: null, allowPower: false };
    const { id: sourceId } = new SourceTable(inventory.database).add({ ...fresh, everyMs: 1, sampleEveryMs: 1 }, 0);
    const look = (count: number, atMs: number): void => {
      const vms = Array.from({ length: count }, (_, n) =>
        someVm({ nativeId: `id-${n}`, name: `vm-${n}`, vcpus: count }),
      );
      const observation = { kind: 'snapshot' as const, vms, unread: [], isComplete: true };
      inventory.apply({ sourceId, observation, moment: { how: 'poll', atMs, observedMs: atMs, notBeforeMs: 0 } });
    };
    const known = (): unknown[] =>
      inventory.database.all<{ vcpus: number }>('SELECT vcpus FROM vm ORDER BY id').map((row) => row.vcpus);
    look(3, 1_000);
    assert.throws(() => look(5_000, 2_000), { kind: 'exhausted', code: 'store.full' });
    assert.deepEqual(known(), [3, 3, 3]);
    execFileSync('mount', ['-o', 'remount,size=200m', small]);
    look(5_000, 3_000);
    assert.equal(known().length, 5_000);
    inventory.close();
  } finally {
    execFileSync('umount', [small]);
    rmSync(small, { recursive: true });
  }
});
