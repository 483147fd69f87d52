import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmRecord, VmUsage } from '#engine';
import { statsView } from './stats.ts';

const record = { id: 'a'.repeat(64), name: 'web', spec: { memoryBytes: 1_000_000 } } as unknown as VmRecord;
const usage: VmUsage = {
  atMs: Date.UTC(2026, 10, 22),
  cpuUserNs: 3_000,
  cpuSystemNs: 1_000,
  hostCpuNs: 90_000,
  memory: { residentBytes: 900, uniqueBytes: 500, templateSharedBytes: 400 },
  guest: { usedBytes: 300, processes: 2 },
  network: {
    received: { bytes: 1, packets: 2, errors: 3, dropped: 4 },
    sent: { bytes: 5, packets: 6, errors: 7, dropped: 8 },
  },
  disks: [{ device: 'data', readBytes: 10, readOperations: 1, writtenBytes: 20, writeOperations: 2 }],
};
type View = Record<string, Record<string, Record<string, unknown>>>;

test('a sample has the shape that docker stats reads, and berth’s own figures beside it', () => {
  const view = statsView(record, { usage, before: undefined, cpus: 2 }) as View;
  assert.equal(view['name'], '/web');
  assert.equal(view['read'], '2026-11-22T00:00:00.000000000Z');
  assert.equal(view['preread'], '0001-01-01T00:00:00Z');
  assert.deepEqual(view['memory_stats'], {
    usage: 300,
    limit: 1_000_000,
    stats: {
      berth_guest_used: 300,
      berth_host_resident: 900,
      berth_host_unique: 500,
      berth_template_shared: 400,
    },
  });
  assert.deepEqual([view['cpu_stats']?.['system_cpu_usage'], view['cpu_stats']?.['online_cpus']], [90_000, 2]);
  assert.equal(view['networks']?.['eth0']?.['tx_dropped'], 8);
  assert.deepEqual(view['blkio_stats']?.['io_service_bytes_recursive'], [
    { major: 254, minor: 16, op: 'read', value: 10 },
    { major: 254, minor: 16, op: 'write', value: 20 },
  ]);
});

test('a guest that does not answer is told by what the host gives it; one that does not run by nothing', () => {
  const silent = { ...usage, guest: undefined, network: undefined };
  const view = statsView(record, { usage: silent, before: usage, cpus: 2 }) as View;
  assert.equal(view['memory_stats']?.['usage'], 900);
  assert.equal('networks' in view, false);
  assert.equal(view['precpu_stats']?.['cpu_usage']?.['total_usage'], 4_000);
  const none = statsView(record, { usage: undefined, before: undefined, cpus: 2 }) as View;
  assert.deepEqual([none['read'], none['memory_stats']], ['0001-01-01T00:00:00Z', {}]);
});
