/** A machine that is busy with something else measures that as well: it is refused. */
import { BerthError } from '#base';
import { findProcesses, hostLoad } from '#platform';

/** Runnable processes on average over the last minute: two cores are then not even half busy. */
const MAX_LOAD = 0.7;

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
