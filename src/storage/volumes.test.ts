import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { BerthError } from '#base';
import { type VolumeSettings, Volumes } from './volumes.ts';

let folder: string;
let records: Map<string, unknown>;
let settings: VolumeSettings;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'berth-volumes-'));
  records = new Map();
  settings = {
    folder,
    records: {
      save: (name, document) => void records.set(name, document),
      remove: (name) => void records.delete(name),
      loadAll: () => [...records.values()],
    },
    makeDisk: async (path) => writeFileSync(path, 'a disk'),
  };
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('what was made is there for the next daemon, and what a crash left of one that was not is removed', async () => {
  const first = await Volumes.open(settings);
  await first.create({ name: 'data', sizeBytes: 2 ** 30, labels: { a: 'b' }, options: { size: '1g' } });
  writeFileSync(join(folder, 'half.img'), '');
  const next = await Volumes.open(settings);
  assert.deepEqual(next.list(), first.list());
  assert.deepEqual(readdirSync(folder), ['data.img']);
});

test('many who ask for one name at once get one volume', async () => {
  const volumes = await Volumes.open(settings);
  const made = await Promise.all(Array.from({ length: 5 }, () => volumes.create({ name: 'data' })));
  assert.equal(made.filter(({ isNew }) => isNew).length, 1);
  assert.equal(volumes.list().length, 1);
});

test('one that could not be made leaves nothing, and can be made later', async () => {
  const broken: VolumeSettings = {
    ...settings,
    records: {
      ...settings.records,
      save: () => {
        throw new BerthError('exhausted', 'store.full', 'no space');
      },
    },
  };
  const volumes = await Volumes.open(broken);
  await assert.rejects(volumes.create({ name: 'data' }), /no space/);
  assert.deepEqual(readdirSync(folder), []);
  assert.equal(volumes.has('data'), false);
  assert.equal((await (await Volumes.open(settings)).create({ name: 'data' })).isNew, true);
});

test('names that are no names, and sizes that are none, are refused', async () => {
  const volumes = await Volumes.open(settings);
  for (const name of ['', '../x', '.x', 'a/b', 'a b', 'ü', `${'n'.repeat(201)}`])
    await assert.rejects(volumes.create({ name }), /is no name for a volume/, name);
  for (const sizeBytes of [0, -1, Number.NaN, 2 ** 60])
    await assert.rejects(volumes.create({ name: 'x', sizeBytes }), /from 16 MiB to 16 TiB/);
});

test('one that is removed is gone with its disk; one that is not there is named', async () => {
  const volumes = await Volumes.open(settings);
  await volumes.create({ name: 'data' });
  await volumes.remove('data');
  assert.deepEqual([readdirSync(folder), records.size], [[], 0]);
  await assert.rejects(volumes.remove('data'), /get data: no such volume/);
  assert.throws(() => volumes.diskOf('data'), /no such volume/);
});

test('one that is made while its namesake is removed keeps its disk', async () => {
  const volumes = await Volumes.open(settings);
  for (let round = 0; round < 50; round += 1) {
    await volumes.create({ name: 'data' });
    await Promise.all([volumes.remove('data'), volumes.create({ name: 'data' })]);
    assert.deepEqual(readdirSync(folder), ['data.img']);
    await volumes.remove('data');
  }
});

test('a record of a newer berth is refused, not dropped', async () => {
  records.set('data', { version: 2, name: 'data' });
  writeFileSync(join(folder, 'data.img'), '');
  await assert.rejects(Volumes.open(settings), /not what this berth writes/);
  assert.deepEqual(readdirSync(folder), ['data.img']);
});
