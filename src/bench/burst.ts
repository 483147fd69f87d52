/**
 * `burst`: N VMs or containers that exist are started at once, each asked for an answer as soon as its start is
 * acknowledged. The figure is the time until the last has answered. Everything goes over the API, with the same requests
 * and all of them in flight at once: what a command line costs would hide the difference.
 */
import { BerthError } from '#base';
import { monotonicMs } from '#platform';
import type { BenchRun } from './bench-run.ts';
import { interleave } from './interleave.ts';
import { CONTAINER_CHECK, checkKernel, VM_CHECK } from './kernel-check.ts';
import type { Measure } from './report.ts';
import type { EngineSide } from './sides/engine-side.ts';

/** Creations in flight: they are not measured, and need not be a burst. */
const CREATIONS_AT_ONCE = 4;
const MILLISECONDS = 1000;

export interface BurstPlan {
  readonly engines: readonly EngineSide[];
  readonly rounds: number;
  readonly vms: number;
}

/** @throws bench.check (data_loss), bench.engine (unavailable). */
export async function benchBurst(run: BenchRun, plan: BurstPlan): Promise<Measure[]> {
  const { engines, rounds, vms } = plan;
  const each = new Map<string, number[]>(engines.map((engine) => [engine.title, []]));
  const participants = engines.map((engine) => ({
    side: engine.title,
    once: async () => {
      const answered = await burstOnce(run, engine, vms);
      each.get(engine.title)?.push(...answered);
      return Math.max(...answered) / MILLISECONDS;
    },
  }));
  const values = await interleave(participants, {
    rounds,
    warmUps: 0,
    signal: run.signal,
    onProgress: (line) => run.onProgress(`burst of ${vms}: ${line}`),
  });
  const checkOf = (engine: EngineSide): string =>
    `each answered with its own token; ${engine.isVm ? VM_CHECK : CONTAINER_CHECK}`;
  return [
    {
      id: 'burst',
      title: `${vms} started at once → last exec answered`,
      unit: 's',
      series: engines.map((engine) => ({
        side: engine.title,
        values: values.get(engine.title) ?? [],
        check: checkOf(engine),
      })),
    },
    {
      id: 'burst-each',
      title: `each of ${vms} started at once → its exec answered`,
      unit: 'ms',
      series: engines.map((engine) => ({
        side: engine.title,
        values: each.get(engine.title) ?? [],
        check: checkOf(engine),
      })),
    },
  ];
}

/** Milliseconds from the first request of the burst to each answer. */
async function burstOnce(run: BenchRun, engine: EngineSide, count: number): Promise<number[]> {
  const { api } = engine;
  const prefix = `${run.prefix}-burst-`;
  try {
    const ids: string[] = [];
    const create = async (index: number): Promise<void> => {
      ids[index] = await api.create({ name: `${prefix}${index}`, image: engine.image, args: ['sleep', '1000000'] });
    };
    for (let at = 0; at < count; at += CREATIONS_AT_ONCE) {
      const some = Array.from({ length: Math.min(CREATIONS_AT_ONCE, count - at) }, (_, index) => create(at + index));
      await Promise.all(some);
    }
    const began = monotonicMs();
    return await Promise.all(
      ids.map(async (id, index) => {
        await api.start(id);
        await answers(run, engine, { id, token: `${prefix}${index}` });
        return monotonicMs() - began;
      }),
    );
  } finally {
    await api.withoutSignal().removeAll(prefix);
  }
}

/** One exec whose output is looked at. @throws bench.check (data_loss). */
export async function answers(
  run: BenchRun,
  engine: EngineSide,
  asked: { readonly id: string; readonly token: string },
): Promise<void> {
  const output = await engine.api.exec(asked.id, ['sh', '-c', 'echo "$1"; uname -r', 'sh', asked.token]);
  const [token, printed = ''] = output.trimEnd().split('\n');
  if (token !== asked.token) {
    throw new BerthError(
      'data_loss',
      'bench.check',
      `${engine.title}: an exec printed ${JSON.stringify(output)}; expected ${asked.token} and a kernel`,
    );
  }
  checkKernel({ side: engine.title, isVm: engine.isVm, printed, hostKernel: run.hostKernel });
}
