/** `berth bench` as a person runs it, on the sides every checkout has: berth itself and bare QEMU. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { findProcesses, sleep } from '#platform';

const BERTH = new URL('../../berth', import.meta.url).pathname;
/** TCG on a loaded host; a hang is told from slowness by it. */
const DEADLINE_MS = 120_000;

let folder: string;

before(() => {
  // Short: QEMU's sockets lie below, and their paths have at most 107 bytes.
  folder = mkdtempSync(join(tmpdir(), 'bb-'));
  chmodSync(folder, 0o711);
});

after(() => rmSync(folder, { recursive: true, force: true }));

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** @param interruptWhen - SIGINT follows as soon as it is so. */
async function bench(args: readonly string[], interruptWhen?: () => boolean): Promise<Outcome> {
  const child = spawn(BERTH, ['bench', ...args], {
    env: { ...process.env, TMPDIR: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: DEADLINE_MS,
    killSignal: 'SIGKILL',
  });
  const text = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].on('data', (data: Buffer) => {
      text[name] += data.toString();
    });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  while (interruptWhen !== undefined && !interruptWhen() && child.exitCode === null) await sleep(20);
  if (interruptWhen !== undefined) child.kill('SIGINT');
  return { code: await ended, ...text };
}

/** Nothing of a run is left: no folder, and no process that names one. */
async function assertNothingLeft(): Promise<void> {
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('berth-bench-')),
    [],
  );
  assert.deepEqual(await findProcesses(join(folder, 'berth-bench-')), []);
}

test('start compares berth with bare QEMU, and says so as a table, as JSON and as a drawing', async () => {
  const [json, svg] = [join(folder, 'start.json'), join(folder, 'start.svg')];
  const args = ['--pairs', '2', '--force', '--sides', 'berth,bare', '--json', json, '--svg', svg];
  const { code, stdout, stderr } = await bench(['start', ...args]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /start → first byte of the process\n\s+side\s+n\s+median\s+p99\s+÷ berth\s+checked\n/);
  assert.match(stdout, /^\s+berth\s+2\s+\S+ ms\s+\S+ ms\s+1\s+uname -r inside is not the host’s/m);
  assert.match(stdout, /^\s+bare QEMU, cold\s+2\s+\S+ ms/m);
  assert.match(stdout, /not measured: docker run --rm: berth ÷ dockerd \+ runc, median: .*was not among the sides/);
  const report = JSON.parse(readFileSync(json, 'utf8')) as {
    verb: string;
    measures: { id: string; series: { side: string; values: number[] }[] }[];
  };
  assert.equal(report.verb, 'start');
  const first = report.measures.find((measure) => measure.id === 'first-byte');
  assert.deepEqual(
    first?.series.map(({ side, values }) => [side, values.length]),
    [
      ['berth', 2],
      ['bare QEMU, cold', 2],
    ],
  );
  assert.ok(first?.series.every(({ values }) => values.every((ms) => ms > 10 && ms < 60_000)));
  const drawing = readFileSync(svg, 'utf8');
  assert.match(drawing, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
  // Two measures, berth in both and bare QEMU in one, two values each.
  assert.equal(drawing.match(/<circle /g)?.length, 6);
  await assertNothingLeft();
});

test('an interrupted benchmark takes everything back and ends with 130', async () => {
  const isServing = (): boolean =>
    readdirSync(folder).some((name) => existsSync(join(folder, name, 'run', 'berth.sock')));
  const { code, stderr } = await bench(['start', '--force', '--sides', 'berth'], isServing);
  assert.equal(code, 130, stderr);
  assert.match(stderr, /SIGINT: cleaning up/);
  await assertNothingLeft();
});

test('a benchmark or a side that is not there is named together with those that are', async () => {
  const verb = await bench(['starts']);
  assert.equal(verb.code, 125);
  assert.match(verb.stderr, /no benchmark "starts"[\s\S]*start, burst, density, idle, fork, wake and all/);
  const side = await bench(['start', '--sides', 'berth,docker']);
  assert.equal(side.code, 125);
  assert.match(side.stderr, /no side "docker"[\s\S]*dockerd/);
});

test('a daemon that cannot fork or sleep says so, and there is no figure', async () => {
  for (const verb of ['fork', 'wake']) {
    const { code, stdout, stderr } = await bench([verb, '--pairs', '1', '--force']);
    if (code === 0) assert.match(stdout, /^\s+berth\s+1\s/m);
    else assert.match(stderr, /this daemon has no (fork|sleep)/);
  }
  await assertNothingLeft();
});
