/**
 * podman, with crun where crun works and runc where not: podman's own command line for `run`, and its service, which speaks
 * the Docker API, for the rest. Default network. Its storage is private.
 */
import { BerthError, messageOf, UndoStack } from '#base';
import { files, runChecked, runProcess } from '#platform';
import type { BenchRun } from '../bench-run.ts';
import { DockerApi } from '../docker-api.ts';
import { startPrivateDaemon } from './daemon-process.ts';
import type { EngineSide } from './engine-side.ts';
import { clearFolder, rememberHost, takeBackHost } from './host-marks.ts';
import { SIDE_TITLES } from './side-names.ts';

/** What podman asks for every container; without the right to raise limits it fails where they are lower. */
const PODMAN_OPEN_FILES = 1_048_576;
/** Small enough for every host. */
const LIMITS = [
  { Name: 'nofile', Soft: 1024, Hard: 4096 },
  { Name: 'nproc', Soft: 4096, Hard: 4096 },
];
/** Where podman's older network program keeps which addresses it gave. */
const CNI_ADDRESSES = '/var/lib/cni/networks';
const TRIAL_DEADLINE_MS = 60_000;

export interface PodmanPlan {
  readonly program: string;
  readonly imageArchive: Buffer;
  readonly image: string;
}

/** @throws bench.podman (unavailable) when no runtime works here; bench.daemon, bench.engine (unavailable). */
export async function openPodman(run: BenchRun, plan: PodmanPlan): Promise<EngineSide> {
  const undo = new UndoStack();
  const unwind = () => undo.unwind((error) => run.onProgress(`while cleaning up after podman: ${messageOf(error)}\n`));
  try {
    const folder = await files.makeTemporaryFolder('berth-bench-podman-');
    undo.push(() => files.rm(folder, { recursive: true, force: true }));
    const before = await rememberHost();
    undo.push(() => takeBackHost(before));
    if (!(await files.exists(CNI_ADDRESSES)))
      undo.push(() => files.rm(CNI_ADDRESSES, { recursive: true, force: true }));
    undo.push(() => clearFolder(folder));
    const isLimited = (await hardOpenFiles()) < PODMAN_OPEN_FILES;
    const settings = `${folder}/containers.conf`;
    await files.mkdir(`${folder}/networks`);
    await files.writeFileAtomic(settings, settingsText(folder, isLimited));
    const commandEnvironment = { CONTAINERS_CONF: settings };
    const env = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...commandEnvironment };
    const front = (runtime: string) =>
      [
        plan.program,
        ...['--root', `${folder}/root`, '--runroot', `${folder}/run`, '--tmpdir', `${folder}/tmp`],
        ...['--runtime', runtime],
      ] as const;
    await files.writeFileAtomic(`${folder}/image.tar`, plan.imageArchive);
    await runChecked([...front('crun'), 'load', '-q', '-i', `${folder}/image.tar`], { env });
    const { runtime, notes } = await workingRuntime(async (name) => {
      const trial = [...front(name), 'run', '--rm', plan.image, 'true'] as const;
      const { exitCode, stderr } = await runProcess(trial, { env, deadlineMs: TRIAL_DEADLINE_MS, signal: run.signal });
      return exitCode === 0 ? undefined : stderr.trim();
    });
    const socketPath = `${folder}/podman.sock`;
    const api = new DockerApi({
      ...{ socketPath, engine: SIDE_TITLES.podman, signal: run.signal },
      ...(isLimited ? { hostConfig: { Ulimits: LIMITS } } : {}),
    });
    const lasting = api.withoutSignal();
    const daemon = await startPrivateDaemon({
      title: SIDE_TITLES.podman,
      argv: [...front(runtime), 'system', 'service', '--time', '0', `unix://${socketPath}`],
      logPath: `${folder}/podman.log`,
      env: commandEnvironment,
      isServing: () => lasting.isServing(),
    });
    undo.push(() => daemon.stop());
    undo.push(() => lasting.removeAll(''));
    const version = await api.call<{ Version: string }>('GET', '/version');
    return {
      ...{ id: 'podman', title: SIDE_TITLES.podman, isVm: false, api, image: plan.image },
      commandLine: front(runtime),
      commandEnvironment,
      attachMakes: true,
      facts: [
        `podman ${version.Version}`,
        `runtime ${runtime}`,
        'its attach makes the container: start → first byte counts from there',
        ...notes,
        ...(isLimited ? ["limits on files and processes set by hand: this host's are below podman's own"] : []),
      ],
      close: unwind,
    };
  } catch (error) {
    await unwind();
    throw error;
  }
}

/** @param fails - the words of a runtime that does not work. */
async function workingRuntime(
  fails: (name: string) => Promise<string | undefined>,
): Promise<{ readonly runtime: string; readonly notes: readonly string[] }> {
  const crun = await fails('crun');
  if (crun === undefined) return { runtime: 'crun', notes: [] };
  const runc = await fails('runc');
  if (runc === undefined) return { runtime: 'runc', notes: [`crun does not work here (${crun})`] };
  throw new BerthError('unavailable', 'bench.podman', `podman runs nothing here: crun: ${crun}; runc: ${runc}`);
}

function settingsText(folder: string, isLimited: boolean): string {
  const limits = LIMITS.map(({ Name, Soft, Hard }) => `"${Name}=${Soft}:${Hard}"`).join(', ');
  return [
    '[containers]',
    ...(isLimited ? [`default_ulimits = [${limits}]`] : []),
    '[network]',
    `network_config_dir = "${folder}/networks"`,
    '',
  ].join('\n');
}

/** @source proc_pid_limits(5) */
async function hardOpenFiles(): Promise<number> {
  const text = await files.readFile('/proc/self/limits', 'utf8');
  const word = /^Max open files\s+\S+\s+(\S+)/m.exec(text)?.[1] ?? '';
  return word === 'unlimited' ? Number.POSITIVE_INFINITY : Number(word);
}
