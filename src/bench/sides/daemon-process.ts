/** A daemon that a benchmark starts for itself and ends again: berth's own, dockerd, podman's service. */
import { BerthError } from '#base';
import { files, isAlive, killAndWait, monotonicMs, processInfo, signalProcess, sleep, spawnDaemon } from '#platform';

const START_DEADLINE_MS = 60_000;
/** dockerd waits 15 s for each container that does not end; ours have none left by then. */
const STOP_DEADLINE_MS = 30_000;
const POLL_MS = 20;

export interface DaemonPlan {
  readonly title: string;
  readonly argv: readonly [string, ...string[]];
  readonly logPath: string;
  readonly env?: Readonly<Record<string, string>>;
  isServing(): Promise<boolean>;
}

export interface RunningDaemon {
  readonly pid: number;
  isAlive(): Promise<boolean>;
  /** SIGTERM, and SIGKILL when that was not enough. */
  stop(): Promise<void>;
}

/** @throws bench.daemon (unavailable) with its last words when it does not come to serve. */
export async function startPrivateDaemon(plan: DaemonPlan): Promise<RunningDaemon> {
  const { title, argv, logPath, env } = plan;
  const child = await spawnDaemon(argv, env === undefined ? { outputPath: logPath } : { outputPath: logPath, env });
  const named = { pid: child.pid, startTicks: (await processInfo(child.pid))?.startTicks ?? -1 };
  const daemon: RunningDaemon = {
    pid: child.pid,
    isAlive: () => isAlive(named),
    stop: async () => {
      if (await isAlive(named)) signalProcess(child.pid, 'SIGTERM');
      const until = monotonicMs() + STOP_DEADLINE_MS;
      while ((await isAlive(named)) && monotonicMs() < until) await sleep(POLL_MS);
      await killAndWait(named);
    },
  };
  const until = monotonicMs() + START_DEADLINE_MS;
  while (!(await plan.isServing())) {
    const isLate = monotonicMs() > until;
    if (isLate || !(await daemon.isAlive())) {
      await daemon.stop();
      const words = ((await files.readTextIfExists(logPath)) ?? '').trim().split('\n').slice(-10).join('\n');
      const how = isLate ? `does not serve after ${START_DEADLINE_MS / 1000} s` : 'ended at once';
      throw new BerthError('unavailable', 'bench.daemon', `${title} ${how}; its last words:\n${words}`);
    }
    await sleep(POLL_MS);
  }
  return daemon;
}
