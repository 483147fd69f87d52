/**
 * QEMU that goes on from a template made by hand: a guest that has booted and said hello, and nothing more. Its memory is
 * a file that every clone maps privately; the rest of its state is a migration stream, which `x-ignore-shared` keeps free
 * of memory. A clone is a QEMU of its own that reads the stream and is then configured as any other guest.
 *
 * The template is not stopped before it is migrated: a clone of a running machine runs by itself.
 *
 * @source QEMU docs/devel/migration, "x-ignore-shared"; measured with QEMU 7.2
 */
import { BerthError, MIB } from '#base';
import { QmpClient } from '#engine';
import { connectUnix, monotonicMs, sleep } from '#platform';
import type { BenchRun } from '../bench-run.ts';
import { checkKernel } from '../kernel-check.ts';
import { type BareMachine, type BareQemu, firstLineOf, MEMORY_BYTES } from './bare-machine.ts';
import type { BareSide } from './bare-side.ts';
import { SIDE_TITLES } from './side-names.ts';

const QMP_DEADLINE_MS = 30_000;
const POLL_MS = 20;

/** @throws bench.template (unavailable) when QEMU does not write the template. */
export async function openBareTemplate(run: BenchRun, machine: BareMachine): Promise<BareSide> {
  const title = SIDE_TITLES.template;
  const [memory, state] = [`${machine.folder}/template.ram`, `${machine.folder}/template.state`];
  await makeTemplate(machine, { memory, state });
  return {
    id: 'template',
    title,
    side: title,
    isVm: true,
    facts: [`QEMU ${machine.qemuVersion}, memory mapped privately from a file`],
    once: async () => {
      const qemu = await machine.spawn((argv) => [
        '/bin/sh',
        ...['-c', `exec 3<'${state}'; exec "$@"`, 'sh'],
        ...withMemory(withRawRoot(argv, machine.rawRoot), { memory, isShared: false }),
        '-incoming',
        'defer',
      ]);
      try {
        const qmp = await connect(qemu);
        await ignoreShared(qmp);
        await qmp.execute('migrate-incoming', { uri: 'fd:3' }, QMP_DEADLINE_MS);
        const { line, atMs } = await firstLineOf(qemu, { rejoin: true });
        qmp.close();
        checkKernel({ side: title, isVm: true, printed: line, hostKernel: run.hostKernel });
        return atMs - qemu.spawnedAtMs;
      } finally {
        await qemu.end();
      }
    },
    close: async () => {},
  };
}

async function makeTemplate(
  machine: BareMachine,
  paths: { readonly memory: string; readonly state: string },
): Promise<void> {
  const qemu = await machine.spawn((argv) => {
    const [program = '', ...words] = withRawRoot(argv, machine.rawRoot);
    // QEMU 7.2 writes a stream to a program only, which its sandbox has to let it start; clones keep the sandbox.
    const loose = words.map((word) => word.replace('spawn=deny', 'spawn=allow'));
    return [program, ...withMemory(loose, { memory: paths.memory, isShared: true })];
  });
  try {
    const channel = await qemu.greet({ rejoin: false, onOutput: () => {} });
    channel.close();
    const qmp = await connect(qemu);
    await ignoreShared(qmp);
    await qmp.execute('migrate', { uri: `exec:cat >'${paths.state}'` }, QMP_DEADLINE_MS);
    const until = monotonicMs() + QMP_DEADLINE_MS;
    for (;;) {
      const { status } = (await qmp.execute('query-migrate')) as { status?: string };
      if (status === 'completed') break;
      if (status === 'failed' || monotonicMs() > until) {
        throw new BerthError('unavailable', 'bench.template', `QEMU's migration to a file is ${status ?? 'not begun'}`);
      }
      await sleep(POLL_MS);
    }
    qmp.close();
  } finally {
    await qemu.end();
  }
}

/** QEMU's VMDK driver refuses to migrate: the same layers as a plain file. */
function withRawRoot(argv: readonly string[], path: string): string[] {
  const file = { driver: 'file', filename: path, 'read-only': true };
  const root = JSON.stringify({ driver: 'raw', 'node-name': 'root', 'read-only': true, file });
  return argv.map((word) => (word.startsWith('{') && word.includes('"node-name":"root"') ? root : word));
}

function withMemory(
  argv: readonly string[],
  options: { readonly memory: string; readonly isShared: boolean },
): string[] {
  const changed = argv.map((word, index) => (argv[index - 1] === '-machine' ? `${word},memory-backend=ram` : word));
  const share = options.isShared ? 'on' : 'off';
  const backend = `memory-backend-file,id=ram,size=${MEMORY_BYTES / MIB}M,mem-path=${options.memory},share=${share}`;
  return [...changed, '-object', backend];
}

async function connect(qemu: BareQemu): Promise<QmpClient> {
  const stream = await connectUnix(qemu.qmpSocket, QMP_DEADLINE_MS);
  const qmp = new QmpClient(stream, { onEvent: () => {}, onClosed: () => {} });
  await qmp.negotiate(QMP_DEADLINE_MS);
  return qmp;
}

async function ignoreShared(qmp: QmpClient): Promise<void> {
  await qmp.execute('migrate-set-capabilities', { capabilities: [{ capability: 'x-ignore-shared', state: true }] });
}
