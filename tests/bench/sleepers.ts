/**
 * Many VMs that sleep: what berthd needs for them, how long a list takes, and that they really wake.
 *
 * Ten thousand VMs would take hours to start one by one and 600 GB to write out, so one is started and put to sleep, and
 * its record and files (hard links, but for the disk) are copied under other ids, names and addresses.
 */
import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import type { VmRecord } from '#engine';
import { runChecked } from '#platform';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { createVm, eventually, execIn, startVm } from '../harness/vm-client.ts';
import { median, type Row } from './report.ts';

const SCRIPT = 'cat /proc/sys/kernel/random/uuid > /dev/shm/word; exec sleep 1000000';
const MEMORY_BYTES = 128 * 1024 * 1024;
/** Of each size, woken to prove that they are what they seem. */
const WOKEN = 5;
const LISTS = 15;

export async function benchSleepers(count: number): Promise<Row[]> {
  const [few, many] = [Math.ceil(count / 10), count];
  const small = await measure(few);
  const large = await measure(many);
  const ratio = large.msPerMegabyte / small.msPerMegabyte;
  return [
    {
      measure: `berthd's resident memory with ${large.sleepers} sleepers`,
      value: `${large.rssMegabytes.toFixed(0)} MB`,
      limit: '≤ 400 MB (10,000 sleepers)',
      holds: large.rssMegabytes <= 400 && large.sleepers >= many,
    },
    { measure: `the same with ${small.sleepers}`, value: `${small.rssMegabytes.toFixed(0)} MB` },
    {
      measure: `list of ${large.sleepers} per MB of answer ÷ list of ${small.sleepers} per MB`,
      value: `${ratio.toFixed(2)} (${large.msPerMegabyte.toFixed(1)} and ${small.msPerMegabyte.toFixed(1)} ms/MB)`,
      limit: '≤ 1.5: flat per byte',
      holds: ratio <= 1.5,
    },
    { measure: `daemon's start with ${large.sleepers} sleepers`, value: `${(large.startMs / 1000).toFixed(1)} s` },
    {
      measure: `wake to an answered exec, median of ${WOKEN}, among ${large.sleepers}`,
      value: `${large.wakeMs.toFixed(0)} ms`,
    },
    { measure: `the same among ${small.sleepers}`, value: `${small.wakeMs.toFixed(0)} ms` },
  ];
}

interface Measured {
  readonly sleepers: number;
  readonly rssMegabytes: number;
  readonly msPerMegabyte: number;
  readonly startMs: number;
  readonly wakeMs: number;
}

async function measure(count: number): Promise<Measured> {
  const daemon = await startTestDaemon({ env: { BERTH_POOL: 'off' } });
  try {
    const id = await createVm(daemon, 'first', SCRIPT, { Memory: MEMORY_BYTES });
    await startVm(daemon, 'first');
    const read = async () => (await execIn(daemon, 'first', ['cat', '/dev/shm/word'])).output;
    const word = await eventually(
      'it has drawn its word',
      20_000,
      async () => /^[0-9a-f-]{36}\n$/.exec(await read())?.[0],
    );
    const { status, body } = await daemon.call('POST', '/berth/v1/vms/first/sleep');
    if (status !== 204) throw new Error(`sleep answered ${status}: ${JSON.stringify(body)}`);
    await daemon.stop();
    const copies = await multiply(daemon, id, count);
    const began = performance.now();
    await daemon.start();
    const startMs = performance.now() - began;
    const { sleepers, msPerMegabyte } = await list(daemon);
    const rss = /VmRSS:\s+([0-9]+)/.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))?.[1];
    const wakeMs: number[] = [];
    for (let index = 0; index < WOKEN; index += 1) {
      const name = `copy${wokenAt(index, count)}`;
      const asked = performance.now();
      const { output } = await execIn(daemon, name, ['cat', '/dev/shm/word']);
      wakeMs.push(performance.now() - asked);
      if (output !== word) throw new Error(`${name} woke with another memory: ${output}`);
    }
    await daemon.stop();
    removeCopies(daemon, copies);
    return { sleepers, rssMegabytes: Number(rss) / 1024, msPerMegabyte, startMs, wakeMs: median(wakeMs) };
  } finally {
    await daemon.start().catch(() => {});
    await daemon.dispose();
  }
}

/** Which of `count` is the `index`-th to be woken. */
function wokenAt(index: number, count: number): number {
  return Math.floor((index * (count - 1)) / WOKEN);
}

/** Copies of the one sleeper, until there are `count`. */
async function multiply(daemon: TestDaemon, id: string, count: number): Promise<string[]> {
  // One transaction for all, which the store of the product has no use for.
  const database = new DatabaseSync(`${daemon.stateDir}/berth.db`);
  const copies: string[] = [];
  try {
    const row = database.prepare("SELECT document FROM record WHERE kind = 'vm' AND id = ?").get(id);
    const found = JSON.parse(String(row?.['document'])) as VmRecord;
    if (found.state.name !== 'asleep' || found.network === undefined) throw new Error('the first VM does not sleep');
    const { saved } = found.state;
    const original = `${daemon.stateDir}/vms/${id}`;
    const put = database.prepare("INSERT INTO record (kind, id, document) VALUES ('vm', ?, ?)");
    database.exec('BEGIN');
    const woken = new Set(Array.from({ length: WOKEN }, (_, index) => wokenAt(index, count)));
    for (let index = 0; index < count - 1; index += 1) {
      const copyId = randomBytes(32).toString('hex') as VmRecord['id'];
      const folder = `${daemon.stateDir}/vms/${copyId}`;
      mkdirSync(`${folder}/asleep`, { recursive: true, mode: 0o711 });
      const files = { ...saved, memoryFile: `${folder}/asleep/memory`, stateFile: `${folder}/asleep/state` };
      linkSync(saved.memoryFile, files.memoryFile);
      linkSync(saved.stateFile, files.stateFile);
      // Only those that are woken need a disk of their own.
      if (woken.has(index)) await runChecked(['cp', '--sparse=always', `${original}/data.img`, `${folder}/data.img`]);
      else linkSync(`${original}/data.img`, `${folder}/data.img`);
      linkSync(`${original}/root.vmdk`, `${folder}/root.vmdk`);
      const address = `172.30.${Math.floor((index + 3) / 256)}.${(index + 3) % 256}`;
      const network = { ...found.network, address };
      const state = { ...found.state, saved: files };
      put.run(copyId, JSON.stringify({ ...found, id: copyId, name: `copy${index}`, network, state }));
      copies.push(copyId);
    }
    database.exec('COMMIT');
    return copies;
  } finally {
    database.close();
  }
}

/** As quick as they came: ten thousand removals over the API would be the longest part. */
function removeCopies(daemon: TestDaemon, copies: readonly string[]): void {
  const database = new DatabaseSync(`${daemon.stateDir}/berth.db`);
  database.exec(
    "DELETE FROM record WHERE kind = 'vm' AND json_extract(document, '$.name') LIKE 'copy%' AND json_extract(document, '$.state.name') = 'asleep'",
  );
  database.close();
  for (const id of copies) rmSync(`${daemon.stateDir}/vms/${id}/asleep`, { recursive: true, force: true });
}

async function list(daemon: TestDaemon): Promise<{ sleepers: number; msPerMegabyte: number }> {
  const times: number[] = [];
  let [sleepers, bytes] = [0, 0];
  for (let round = 0; round < LISTS; round += 1) {
    const began = performance.now();
    const { body } = await daemon.call('GET', '/containers/json');
    times.push(performance.now() - began);
    sleepers = (body as { Status: string }[]).filter(({ Status }) => Status.endsWith('(asleep)')).length;
    bytes = JSON.stringify(body).length;
  }
  return { sleepers, msPerMegabyte: median(times) / (bytes / 1e6) };
}
