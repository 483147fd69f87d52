/** berth's own sides: a daemon with folders, socket and bridge of its own, or one that runs already. */
import { messageOf, UndoStack } from '#base';
import { files, findProcesses, killAndWait } from '#platform';
import { daemonCommand } from '#setup';
import type { BenchRun } from '../bench-run.ts';
import { DockerApi } from '../docker-api.ts';
import { startPrivateDaemon } from './daemon-process.ts';
import type { EngineSide } from './engine-side.ts';
import { SIDE_TITLES } from './side-names.ts';

const IMAGE = 'berth/busybox';

export interface PrivateBerth extends EngineSide {
  readonly stateFolder: string;
  readonly runFolder: string;
}

/**
 * @param id - `cold` is the same daemon told to boot every VM from its kernel on.
 * @throws bench.daemon (unavailable).
 */
export async function openPrivateBerth(run: BenchRun, id: 'berth' | 'cold'): Promise<PrivateBerth> {
  const undo = new UndoStack();
  const folder = await files.makeTemporaryFolder('berth-bench-');
  undo.push(() => files.rm(folder, { recursive: true, force: true }));
  try {
    // QEMU runs under a user of its own and has to come through here.
    await files.chmod(folder, 0o711);
    const [stateFolder, runFolder] = [`${folder}/state`, `${folder}/run`];
    const socketPath = `${runFolder}/berth.sock`;
    const api = new DockerApi({ socketPath, engine: SIDE_TITLES[id], signal: run.signal });
    const lasting = api.withoutSignal();
    const start = () =>
      startPrivateDaemon({
        title: SIDE_TITLES[id],
        argv: daemonCommand(run.installation, ['--state-dir', stateFolder, '--run-dir', runFolder]),
        logPath: `${folder}/daemon.log`,
        env: { BERTH_STATE_DIR: '', BERTH_RUN_DIR: '', BERTH_SOCKET: '', BERTH_TEMPLATES: id === 'cold' ? 'off' : '' },
        isServing: () => lasting.isServing(),
      });
    let daemon = await start();
    undo.push(() => endMachines(folder));
    undo.push(async () => {
      // VMs outlive a daemon that died: only the next one gives back their taps, rules and bridge.
      if (!(await daemon.isAlive())) daemon = await start();
      await lasting.removeAll('');
      await daemon.stop();
    });
    return {
      ...(await berthSide(api, id)),
      stateFolder,
      runFolder,
      close: () => unwind(undo, run),
    };
  } catch (error) {
    await unwind(undo, run);
    throw error;
  }
}

/** A daemon somebody else started: only what this run made is removed from it. */
export async function openRunningBerth(run: BenchRun, socketPath: string): Promise<EngineSide> {
  const api = new DockerApi({ socketPath, engine: SIDE_TITLES.berth, signal: run.signal });
  const side = await berthSide(api, 'berth');
  return { ...side, close: () => api.withoutSignal().removeAll(run.prefix) };
}

async function berthSide(api: DockerApi, id: 'berth' | 'cold'): Promise<EngineSide> {
  const version = await api.call<{ Version: string }>('GET', '/version');
  return {
    id,
    title: SIDE_TITLES[id],
    isVm: true,
    api,
    image: IMAGE,
    ...(id === 'berth' ? { commandLine: ['docker', '-H', `unix://${api.socketPath}`] as const } : {}),
    facts: [`berth ${version.Version}`],
    close: async () => {},
  };
}

/** The last resort: QEMUs whose daemon could not be brought back. */
async function endMachines(folder: string): Promise<void> {
  for (const found of await findProcesses(folder)) if (found.pid !== process.pid) await killAndWait(found);
}

async function unwind(undo: UndoStack, run: BenchRun): Promise<void> {
  await undo.unwind((error) => run.onProgress(`while cleaning up after berth: ${messageOf(error)}\n`));
}
