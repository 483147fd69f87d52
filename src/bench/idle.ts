/**
 * `idle`: processor time of VMs in which nothing happens: user and system time of their QEMUs over a window, all sides in
 * the same window. A container's `sleep` takes none by nature; bare QEMU shows what the machine itself takes.
 */
import { monotonicMs, sleep } from '#platform';
import type { BenchRun } from './bench-run.ts';
import { answers } from './burst.ts';
import { CONTAINER_CHECK, VM_CHECK } from './kernel-check.ts';
import { TICKS_PER_SECOND, ticksOf } from './proc-figures.ts';
import type { Measure } from './report.ts';
import type { BareMachine } from './sides/bare-machine.ts';
import type { EngineSide } from './sides/engine-side.ts';
import { SIDE_TITLES } from './sides/side-names.ts';

/** Until a guest's boot, page cache and timers have come to rest. */
const SETTLE_MS = 20_000;

export interface IdlePlan {
  readonly engines: readonly EngineSide[];
  readonly machine: BareMachine | undefined;
  readonly vms: number;
  readonly seconds: number;
}

interface Idler {
  readonly side: string;
  readonly check: string;
  readonly pid: number;
}

/** @throws bench.check (data_loss), bench.engine, bench.process (unavailable). */
export async function benchIdle(run: BenchRun, plan: IdlePlan): Promise<Measure[]> {
  const { engines, machine, vms, seconds } = plan;
  const prefix = `${run.prefix}-idle-`;
  const bare = machine === undefined ? undefined : await machine.spawn((argv) => argv);
  try {
    const idlers: Idler[] = [];
    for (const engine of engines) {
      for (let index = 0; index < vms; index += 1) {
        const { api, image, title, isVm } = engine;
        const id = await api.create({ name: `${prefix}${index}`, image, args: ['sleep', '1000000'] });
        await api.start(id);
        await answers(run, engine, { id, token: id });
        idlers.push({ side: title, check: isVm ? VM_CHECK : CONTAINER_CHECK, pid: await api.pidOf(id) });
        run.onProgress(`idle: ${title}: ${index + 1} of ${vms} run`);
      }
    }
    if (bare !== undefined) {
      const channel = await bare.greet({ rejoin: false, onOutput: () => {} });
      await bare.begin(channel, ['sleep', '1000000']);
      channel.close();
      idlers.push({ side: SIDE_TITLES.bare, check: 'its guest program has started the process', pid: bare.pid });
    }
    run.onProgress(`idle: settling ${SETTLE_MS / 1000} s, then looking for ${seconds} s`);
    await sleep(SETTLE_MS, run.signal);
    const before = await Promise.all(idlers.map(({ pid }) => ticksOf(pid)));
    const began = monotonicMs();
    await sleep(seconds * 1000, run.signal);
    const after = await Promise.all(idlers.map(({ pid }) => ticksOf(pid)));
    const ticks = ((monotonicMs() - began) / 1000) * TICKS_PER_SECOND;
    const percentOf = (index: number): number => (((after[index] ?? 0) - (before[index] ?? 0)) / ticks) * 100;
    const sides = [...new Set(idlers.map(({ side }) => side))];
    const series = sides.map((side) => ({
      side,
      values: idlers.flatMap((one, index) => (one.side === side ? [percentOf(index)] : [])),
      check: idlers.find((one) => one.side === side)?.check ?? '',
    }));
    return [{ id: 'idle', title: `processor of an idle one, of one core, over ${seconds} s`, unit: '%', series }];
  } finally {
    await bare?.end();
    for (const engine of engines) await engine.api.withoutSignal().removeAll(prefix);
  }
}
