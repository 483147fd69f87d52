/** A daemon that is killed before the rows of the search index are made, which a look leaves for later. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { type RunningVcsim, startVcsim, VCSIM_CREDENTIALS } from '../harness/vcsim.ts';
import { eventually } from '../harness/vm-client.ts';

const VMS = 4_000;
let daemon: TestDaemon;
let vcsim: RunningVcsim;

before(async () => {
  vcsim = await startVcsim(10, VMS / 10);
  daemon = await startTestDaemon({ env: { BERTH_POOL: 'off', BERTH_TEMPLATES: 'off' } });
});

after(async () => {
  await vcsim.kill();
  assert.deepEqual(await daemon.dispose(), []);
});

interface Rows {
  readonly mark: number;
  readonly last: number;
  readonly known: number;
  /** The first and the last of them by name. */
  readonly names: readonly string[];
}

/** As the file has it: up to which VM there are rows, and which VM is the last. */
function rows(): Rows {
  const database = new DatabaseSync(join(daemon.stateDir, 'fleet.db'), { readOnly: true });
  const sql = `SELECT (SELECT upto FROM search_mark) AS mark, MAX(id) AS last, COUNT(*) AS known FROM vm WHERE uuid IS NOT NULL`;
  const counts = database.prepare(sql).get() as unknown as Omit<Rows, 'names'>;
  const ends = `SELECT name FROM vm WHERE id IN (SELECT MIN(id) FROM vm UNION SELECT MAX(id) FROM vm)`;
  const names = database.prepare(ends).all() as unknown as { name: string }[];
  database.close();
  return { ...counts, names: names.map(({ name }) => name) };
}

const found = async (text: string): Promise<string[]> => {
  const { body } = await daemon.call('GET', `/berth/v1/fleet/search?q=${encodeURIComponent(text)}&limit=10`);
  return (body as { items: readonly { name: string }[] }).items.map((vm) => vm.name);
};

test('whoever has no row yet is found all the same, and gets it after the restart', async () => {
  await daemon.call('POST', '/berth/v1/sources', {
    name: 'vc',
    url: vcsim.url.href,
    pin: vcsim.pin,
    credentials: VCSIM_CREDENTIALS,
  });
  // Rows are made after the look, whose last part is yet to come.
  await eventually('most are written', 60_000, () => Promise.resolve(rows().known >= VMS / 2));
  await daemon.crash();
  const killed = rows();
  assert.ok(killed.mark < killed.last, 'all rows were there already: nothing was cut off');
  // What is in the file is all there is to find by.
  await vcsim.kill();
  await daemon.start();
  assert.equal(killed.names.length, 2);
  for (const name of killed.names) assert.ok((await found(name)).includes(name), `${name} is not found`);
  await eventually('all have their row', 60_000, () => Promise.resolve(rows().mark >= killed.last));
  for (const name of killed.names) assert.ok((await found(name)).includes(name), `${name} is not found`);
  assert.deepEqual(await found('nobody-has-this'), []);
});
