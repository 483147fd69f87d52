/**
 * dockerd with runc, as a person has it: default network, iptables, userland proxy, json-file log. It is private: its
 * folders, socket and containerd are its own. The bridge docker0 and the chains of iptables exist once a host, so a
 * host on which a dockerd runs already is refused.
 */
import { messageOf, UndoStack } from '#base';
import { files } from '#platform';
import type { BenchRun } from '../bench-run.ts';
import { DockerApi } from '../docker-api.ts';
import { startPrivateDaemon } from './daemon-process.ts';
import type { EngineSide } from './engine-side.ts';
import { clearFolder, rememberHost, takeBackHost } from './host-marks.ts';
import { SIDE_TITLES } from './side-names.ts';

/** Outside dockerd's own default pool and berth's. */
const SUBNET = '172.29.77.';

export interface DockerdPlan {
  readonly program: string;
  /** The same root file system as berth's: `docker save` of it. */
  readonly imageArchive: Buffer;
  readonly image: string;
}

/** @throws bench.daemon, bench.engine (unavailable). */
export async function openDockerd(run: BenchRun, plan: DockerdPlan): Promise<EngineSide> {
  const undo = new UndoStack();
  const unwind = () => undo.unwind((error) => run.onProgress(`while cleaning up after dockerd: ${messageOf(error)}\n`));
  try {
    const folder = await files.makeTemporaryFolder('berth-bench-dockerd-');
    undo.push(() => files.rm(folder, { recursive: true, force: true }));
    const before = await rememberHost();
    undo.push(() => takeBackHost(before));
    undo.push(() => clearFolder(folder));
    // Not the host's own configuration: the side is dockerd as it comes.
    await files.writeFileAtomic(`${folder}/daemon.json`, '{}');
    const socketPath = `${folder}/docker.sock`;
    const api = new DockerApi({ socketPath, engine: SIDE_TITLES.dockerd, signal: run.signal });
    const lasting = api.withoutSignal();
    const daemon = await startPrivateDaemon({
      title: SIDE_TITLES.dockerd,
      argv: [
        plan.program,
        ...['--data-root', `${folder}/data`, '--exec-root', `${folder}/exec`, '--pidfile', `${folder}/pid`],
        ...['--config-file', `${folder}/daemon.json`, '-H', `unix://${socketPath}`, '--bip', `${SUBNET}1/24`],
      ],
      logPath: `${folder}/dockerd.log`,
      isServing: () => lasting.isServing(),
    });
    undo.push(() => daemon.stop());
    undo.push(() => lasting.removeAll(''));
    const info = await api.call<DockerInfo>('GET', '/info');
    await api.loadImage(plan.imageArchive);
    return {
      id: 'dockerd',
      title: SIDE_TITLES.dockerd,
      isVm: false,
      api,
      image: plan.image,
      commandLine: ['docker', '-H', `unix://${socketPath}`],
      facts: [
        `dockerd ${info.ServerVersion}`,
        `runtime ${info.DefaultRuntime}`,
        `storage driver ${info.Driver}`,
        `cgroup v${info.CgroupVersion}`,
      ],
      close: unwind,
    };
  } catch (error) {
    await unwind();
    throw error;
  }
}

interface DockerInfo {
  readonly ServerVersion: string;
  readonly Driver: string;
  readonly DefaultRuntime: string;
  readonly CgroupVersion: string;
}
