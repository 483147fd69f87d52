/** A machine that is busy with something else measures that as well: it is refused. */
import { BerthError } from '#base';
import { findProcesses, hostLoad, monotonicMs, sleep } from '#platform';

/** Runnable processes on average over the last minute: two cores are then not even half busy. */
const MAX_LOAD = 0.7;

/** A load average of 20 falls to 0.7 within four minutes when nothing runs. */
const CALM_DEADLINE_MS = 6 * 60_000;
const POLL_MS = 2_000;

/** Between two benchmarks: until the load of the first one has gone from the average, or it is no use waiting. */
export async function waitUntilCalm(): Promise<void> {
  const until = monotonicMs() + CALM_DEADLINE_MS;
  while (hostLoad() > MAX_LOAD && monotonicMs() < until) await sleep(POLL_MS);
}

/** @throws bench.busy (conflict) naming what keeps the machine busy. */
export async function refuseBusyMachine(): Promise<void> {
  const load = hostLoad();
  const machines = (await findProcesses('qemu-system-')).filter(({ argv }) => /(^|\/)qemu-system-/.test(argv[0] ?? ''));
  const reasons = [
    ...(load > MAX_LOAD ? [`its load is ${load.toFixed(2)}, more than ${MAX_LOAD}`] : []),
    ...(machines.length > 0
      ? [
          `QEMU runs already (pid ${machines
            .map(({ pid }) => pid)
            .slice(0, 5)
            .join(', ')})`,
        ]
      : []),
  ];
  if (reasons.length === 0) return;
  throw new BerthError('conflict', 'bench.busy', `this machine is busy: ${reasons.join('; ')}`, {
    hint: 'wait or stop the VMs, or measure anyway with --force: the figures then say little',
  });
}
