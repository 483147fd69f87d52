import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HostUseListing } from '#fleet';
import { HOST_USE_COLUMNS, hostUseRows, hostUseSums } from './host-use-rows.ts';

const HOUR_NS = 3_600_000_000_000n;

function hourOf(hour: number, used: bigint): HostUseListing {
  const share = (capacity: bigint, of: bigint): HostUseListing['cpuNs'] => ({
    capacity: String(capacity),
    used: String(of),
    overhead: String(capacity / 10n),
    idle: String(capacity - of - capacity / 10n),
    unknown: '0',
    beyond: '0',
  });
  return {
    source: 'lab',
    host: 'rack1',
    also: [],
    start: `2026-11-22T0${hour}:00:00.000Z`,
    end: `2026-11-22T0${hour + 1}:00:00.000Z`,
    cpuNs: share(4n * HOUR_NS, used),
    memoryKibMs: share(8n * 2n ** 20n * 3_600_000n, 0n),
    gaps: [],
  };
}

test('hours of a host are added up, and parts are told of the whole; by the hour each is by itself', () => {
  const hours = [hourOf(1, HOUR_NS), hourOf(2, 3n * HOUR_NS), { ...hourOf(1, 0n), host: 'rack2' }];
  const rows = hostUseSums(hours, false).flatMap(hostUseRows);
  assert.deepEqual(
    rows.map((row) => [
      row['Host'],
      row['What'],
      row['Capacity'],
      row['VMs'],
      row['Overhead'],
      row['Idle'],
      row['Unknown'],
    ]),
    [
      ['rack1', 'processors', '4', '50.0%', '10.0%', '40.0%', '0.0%'],
      ['rack1', 'memory', '8GiB', '0.0%', '10.0%', '90.0%', '0.0%'],
      ['rack2', 'processors', '4', '0.0%', '10.0%', '90.0%', '0.0%'],
      ['rack2', 'memory', '8GiB', '0.0%', '10.0%', '90.0%', '0.0%'],
    ],
  );
  for (const [field] of HOST_USE_COLUMNS)
    assert.ok(
      rows.every((row) => row[field] !== undefined),
      field,
    );
  assert.equal(hostUseSums(hours, true).length, 3);
});
