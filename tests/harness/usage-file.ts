/** A small estate's November as a usage file: two hosts, a project in a tier, a clone pair, a move, a stop. */
const GIB = 1024 ** 3;
const interval = (vm: string, name: string, change: Record<string, unknown>): string =>
  JSON.stringify({
    type: 'interval',
    vm,
    name,
    source: 'lab',
    host: 'h1',
    power: 'running',
    vcpus: 2,
    memoryBytes: 4 * GIB,
    disks: [{ class: 'ssd', bytes: 20 * GIB }],
    addresses: 1,
    start: '2026-11-01T00:00:00Z',
    ...change,
  });
const host = (name: string): string =>
  JSON.stringify({
    type: 'host',
    source: 'lab',
    host: name,
    vcpus: 16,
    memoryBytes: 64 * GIB,
    overheadVcpus: 1,
    overheadMemoryBytes: 2 * GIB,
    start: '2026-11-01T00:00:00Z',
  });
const sample = (vm: string, day: number): string =>
  JSON.stringify({
    type: 'sample',
    vm,
    at: new Date(Date.UTC(2026, 10, 1) + day * 86_400_000).toISOString(),
    counters: { networkOutBytes: String(day * 3 * GIB) },
  });

/** @param asOf - when the estate was last looked at: open intervals end there. */
export function usageFileText(asOf = '2026-12-01T00:00:00Z'): string {
  const days = Math.floor((Date.parse(asOf) - Date.UTC(2026, 10, 1)) / 86_400_000);
  const shared = { group: 'template-1', bytes: 1 * GIB };
  return [
    JSON.stringify({ berth: 'usage', version: 1, asOf }),
    host('h1'),
    host('h2'),
    interval('a1', 'shop-web', { end: '2026-11-10T12:00:00Z', tags: { tier: 'gold' } }),
    interval('a1', 'shop-web', { start: '2026-11-10T12:00:00Z', host: 'h2', tags: { tier: 'gold' } }),
    interval('a2', 'shop-db', { vcpus: 4, memoryBytes: 8 * GIB, tags: { licence: 'windows-2022' } }),
    interval('b1', 'mail', { tags: { app: 'mail' }, sharedMemory: shared, end: '2026-11-12T00:00:00Z' }),
    interval('b1', 'mail', {
      tags: { app: 'mail' },
      sharedMemory: shared,
      start: '2026-11-12T00:00:00Z',
      power: 'off',
    }),
    interval('b2', 'zürich, "files"', { tags: { app: 'files' }, sharedMemory: shared, owner: 'carla' }),
    interval('c1', 'build', { host: 'h2', start: '2026-11-03T07:12:00Z', end: '2026-11-03T07:12:01Z' }),
    ...Array.from({ length: days + 1 }, (_, day) => sample('a1', day)),
    '',
  ].join('\n');
}
