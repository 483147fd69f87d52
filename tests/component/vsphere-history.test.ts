/** What a vCenter (vcsim) did before berth knew it is in the history, once, and cuts nothing that berth saw. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Fleet, vmNumber, vsphereDriver } from '#fleet';
import { startVcsim, VCSIM_CREDENTIALS } from '../harness/vcsim.ts';
import { eventually } from '../harness/vm-client.ts';

const DEADLINE_MS = 30_000;

test('events of before the first look become intervals that are told; a restart neither doubles nor loses them', async () => {
  const vcsim = await startVcsim(2, 2);
  const folder = mkdtempSync(join(tmpdir(), 'berth-told-'));
  const log: string[] = [];
  const open = () =>
    Fleet.open({ folder, drivers: [vsphereDriver], holder: 'test', log: (line: string) => log.push(line) });
  let fleet = await open();
  try {
    const [one] = await vcsim.list();
    const name = one?.name ?? '';
    await vcsim.ask('stop', name);
    await vcsim.ask('moved', name);
    await vcsim.ask('start', name);
    const now = (await vcsim.list()).find((vm) => vm.id === one?.id);
    assert.notEqual(now?.host, one?.host);
    fleet.addSource({ name: 'vc', url: vcsim.url.href, pin: vcsim.pin, credentials: VCSIM_CREDENTIALS });
    const isTold = () => eventually('the past is told', DEADLINE_MS, async () => fleet.sources()[0]?.toldMs != null);
    await isTold();
    const history = () => {
      const vm = fleet.queries.find(name);
      return fleet.past.ofVm(vmNumber(vm.id), { limit: 100 }).items;
    };
    const first = history();
    const states = first.map((interval) => [interval.powerState, interval.opened.how]);
    // vcsim makes its VMs and switches them on, often within one millisecond.
    if (states[0]?.[0] === 'off') states.shift();
    assert.deepEqual(
      states,
      [
        ['running', 'told'],
        ['off', 'told'],
        ['off', 'told'],
        ['running', 'told'],
        ['running', 'poll'],
      ],
      log.join('\n'),
    );
    for (const [at, interval] of first.slice(0, -1).entries())
      assert.equal(interval.closed?.atMs, first[at + 1]?.opened.atMs, 'one after another, up to the first look');
    assert.equal(first.at(-1)?.closed, null);
    const [move] = fleet.past.moves({ limit: 10 }).items;
    assert.deepEqual([move?.name, move?.opened.how], [name, 'told']);
    assert.notEqual(move?.movedFrom, move?.host);
    await fleet.close();
    fleet = await open();
    await eventually('it is up again', DEADLINE_MS, async () => fleet.sources()[0]?.state === 'up');
    fleet.refresh('vc');
    await vcsim.ask('stop', name);
    await eventually('the stop is heard', DEADLINE_MS, async () => history().at(-1)?.powerState === 'off');
    assert.deepEqual(history().slice(0, first.length - 1), first.slice(0, -1), 'what was told stays as it was');
    assert.equal(history().length, first.length + 1);
  } finally {
    await fleet.close();
    await vcsim.kill();
    rmSync(folder, { recursive: true, force: true });
  }
});
