/** A database of an earlier layout, with VMs in it, as the next berth finds it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openDatabase } from '#store';
import { ConsumptionTable } from '../consumption/consumption-table.ts';
import { someHost, someSample, someVm } from '../fixture.ts';
import { HostTable } from './host-table.ts';
import { Inventory } from './inventory.ts';
import { LAYOUT } from './layout.ts';
import { FleetQueries } from './queries.ts';

test('layout 1 becomes layout 2: addresses are known from the last confirmed moment on, and nothing else changed', () => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-layout-'));
  const path = join(folder, 'fleet.db');
  const old = openDatabase(path, LAYOUT.slice(0, 1));
  old.run(
    `INSERT INTO source (name, url, driver, allow_power, every_ms, added_ms, state, since_ms, ok_ms)
     VALUES ('a', 'test:///', 'test', 0, 1000, 0, 'up', 0, 5000)`,
  );
  const nic = { mac: null, network: null, model: null, addresses: ['10.0.0.1', '10.0.0.2', 'fe80::1'] };
  const facts = JSON.stringify(someVm({ nics: [nic] }));
  for (const goneMs of [null, 4_000])
    old.run(
      `INSERT INTO vm (name, source_id, power_state, facts, first_ms, changed_ms, gone_ms) VALUES ('web', 1, 'running', ?, 0, 0, ?)`,
      facts,
      goneMs,
    );
  for (const [vmId, closedMs] of [
    [1, null],
    [2, 4_000],
  ] as const)
    old.run(
      `INSERT INTO interval (vm_id, source_id, power_state, vcpus, causes, opened_ms, opened_observed_ms,
         opened_not_before_ms, opened_how, closed_ms) VALUES (?, 1, 'running', 2, 'appeared', 1000, 1000, 0, 'poll', ?)`,
      vmId,
      closedMs,
    );
  old.close();
  const { database, owners } = Inventory.open(path);
  const intervals = database
    .all<Record<string, unknown>>(
      'SELECT vm_id, vcpus, addresses, causes, opened_ms, closed_ms FROM interval ORDER BY id',
    )
    .map((row) => Object.values(row));
  assert.deepEqual(intervals, [
    [1, 2, null, 'appeared', 1_000, 5_000],
    [2, 2, null, 'appeared', 1_000, 4_000],
    [1, 2, 2, 'shape', 5_000, null],
  ]);
  assert.deepEqual(database.get<{ ms: number }>('SELECT first_ok_ms AS ms FROM source')?.ms, 5_000);
  const [vm] = new FleetQueries(database).list({ sort: 'owner', limit: 10 }).items;
  assert.deepEqual([vm?.name, vm?.owner, vm?.project], ['web', null, null]);
  assert.equal(owners.step(6_000), true);
  database.close();
  rmSync(folder, { recursive: true });
});

test('layout 3 becomes layout 4: what was read of a Xen domain goes on under its new name, and nothing counts twice', () => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-layout-'));
  const path = join(folder, 'fleet.db');
  const old = openDatabase(path, LAYOUT.slice(0, 3));
  for (const [id, driver] of [
    [1, 'xen'],
    [2, 'libvirt'],
  ] as const) {
    old.run(
      `INSERT INTO source (id, name, url, driver, allow_power, every_ms, added_ms, state, since_ms, ok_ms, first_ok_ms)
       VALUES (?1, ?2, 'test:///', ?2, 0, 1000, 0, 'up', 0, 5000, 0)`,
      id,
      driver,
    );
    old.run(
      "INSERT INTO vm (name, source_id, power_state, facts, first_ms, changed_ms) VALUES ('web', ?, 'running', '{}', 0, 0)",
      id,
    );
    old.run(
      "INSERT INTO sighting (source_id, native_id, vm_id, facts, first_ms, changed_ms) VALUES (?1, 'vm-1', ?1, '{}', 0, 0)",
      id,
    );
    old.run("INSERT INTO reading VALUES (?1, ?1, '7', 60000, NULL, ?2)", id, '{"cpuNanoseconds":"1000"}');
  }
  old.close();
  const { database } = Inventory.open(path);
  const table = new ConsumptionTable(database);
  const take = (sourceId: number, run: string): void =>
    table.take({ sourceId, nowMs: 120_000, everyMs: 60_000 }, [
      someSample({ atMs: 120_000, run, cpuNanoseconds: 1_100n }),
    ]);
  take(1, 'a-boot.7');
  take(2, '7');
  assert.deepEqual(
    database.all<{ ns: number }>('SELECT SUM(cpu_ns) AS ns FROM consumed GROUP BY source_id').map(({ ns }) => ns),
    [100, 100],
  );
  database.close();
  rmSync(folder, { recursive: true });
});

test('layout 8 becomes layout 9: hosts are as they were, each a machine by itself until a source says more', () => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-layout-'));
  const path = join(folder, 'fleet.db');
  const old = openDatabase(path, LAYOUT.slice(0, 8));
  for (const id of [1, 2])
    old.run(
      `INSERT INTO source (id, name, url, driver, allow_power, every_ms, added_ms, state, since_ms, ok_ms)
       VALUES (?1, 's' || ?1, 'test:///', 'test', 0, 1000, 0, 'up', 0, 9000)`,
      id,
    );
  const uuid = '4c4c4544-0035-4b10-8051-b4c04f4d3133';
  const facts = JSON.stringify(someHost({ uuid }));
  for (const [sourceId, nativeId, goneMs] of [
    [1, 'host-1', null],
    [1, 'host-2', 4_000],
    [2, 'host-1', null],
  ] as const)
    old.run(
      `INSERT INTO host (source_id, native_id, key, name, facts, first_ms, last_ms, gone_ms) VALUES (?, ?, 'h', 'h', ?, 1000, 9000, ?)`,
      sourceId,
      nativeId,
      facts,
      goneMs,
    );
  old.close();
  const { database } = Inventory.open(path);
  const spans = () =>
    database
      .all<Record<string, unknown>>(
        'SELECT source_id, native_id, machine, threads, opened_ms, closed_ms FROM host_span ORDER BY id',
      )
      .map((row) => Object.values(row));
  const before = [
    [1, 'host-1', 1, 2, 1_000, null],
    [1, 'host-2', 2, 2, 1_000, 4_000],
    [2, 'host-1', 3, 2, 1_000, null],
  ];
  assert.deepEqual(spans(), before);
  const table = new HostTable(database);
  table.take(1, [someHost({ uuid })], 10_000);
  assert.deepEqual(spans(), before);
  table.take(2, [someHost({ uuid })], 11_000);
  assert.deepEqual(spans(), [
    ...before.slice(0, 2),
    [2, 'host-1', 3, 2, 1_000, 11_000],
    [2, 'host-1', 1, 2, 11_000, null],
  ]);
  database.close();
  rmSync(folder, { recursive: true });
});
