/**
 * `start`: how long until something runs.
 *
 * * `run`: the whole `docker run --rm IMAGE true`, the same client for each engine; podman is its own client.
 * * `first-byte`: `POST /containers/{id}/start` → the first byte of the process on a stream attached before. Bare QEMU:
 *   from the spawn of the program to the same byte.
 */
import { BerthError } from '#base';
import { monotonicMs, runProcess } from '#platform';
import type { BenchRun } from './bench-run.ts';
import { interleave, type Participant } from './interleave.ts';
import { CONTAINER_CHECK, checkKernel, VM_CHECK } from './kernel-check.ts';
import type { Measure } from './report.ts';
import type { BareSide } from './sides/bare-side.ts';
import type { EngineSide } from './sides/engine-side.ts';

/** The docker CLI swallows SIGTERM: it is killed outright. A cold VM on a loaded host takes 10 s. */
const COMMAND_DEADLINE_MS = 120_000;

export interface StartPlan {
  readonly engines: readonly EngineSide[];
  readonly bares: readonly BareSide[];
  readonly pairs: number;
}

/** @throws bench.check (data_loss), bench.engine, bench.command (unavailable). */
export async function benchStart(run: BenchRun, plan: StartPlan): Promise<Measure[]> {
  const { engines, bares, pairs } = plan;
  const typed = engines.filter((engine) => engine.commandLine !== undefined);
  for (const engine of typed) await checkCommand(run, engine);
  const runs = await interleave(
    typed.map((engine) => commandParticipant(run, engine)),
    {
      rounds: pairs,
      // The check before was the same work.
      warmUps: 0,
      signal: run.signal,
      onProgress: (line) => run.onProgress(`run --rm: ${line}`),
    },
  );
  for (const engine of typed) await checkCommand(run, engine);
  const firsts = await interleave([...engines.map((engine) => engineParticipant(run, engine)), ...bares], {
    rounds: pairs,
    warmUps: 1,
    signal: run.signal,
    onProgress: (line) => run.onProgress(`start → first byte: ${line}`),
  });
  const isVm = new Map([...engines, ...bares].map((side) => [side.title, side.isVm]));
  const series = (values: ReadonlyMap<string, readonly number[]>, more = '') =>
    [...values].map(([side, list]) => ({
      side,
      values: list,
      check: `${isVm.get(side) === false ? CONTAINER_CHECK : VM_CHECK}${more}`,
    }));
  return [
    { id: 'run', title: 'docker run --rm IMAGE true', unit: 'ms', series: series(runs, ', before and after; exit 0') },
    { id: 'first-byte', title: 'start → first byte of the process', unit: 'ms', series: series(firsts) },
  ];
}

function commandParticipant(run: BenchRun, engine: EngineSide): Participant {
  return {
    side: engine.title,
    once: async () => {
      const began = monotonicMs();
      await runOnce(run, engine, ['true']);
      return monotonicMs() - began;
    },
  };
}

async function checkCommand(run: BenchRun, engine: EngineSide): Promise<void> {
  const printed = await runOnce(run, engine, ['uname', '-r']);
  checkKernel({ side: engine.title, isVm: engine.isVm, printed, hostKernel: run.hostKernel });
}

async function runOnce(run: BenchRun, engine: EngineSide, args: readonly string[]): Promise<string> {
  const [program = 'docker', ...front] = engine.commandLine ?? [];
  const { exitCode, stdout, stderr } = await runProcess([program, ...front, 'run', '--rm', engine.image, ...args], {
    deadlineMs: COMMAND_DEADLINE_MS,
    signal: run.signal,
    env: { ...run.env, ...engine.commandEnvironment },
  });
  if (exitCode === 0) return stdout;
  const what = `${program} run --rm ${engine.image} ${args.join(' ')}`;
  throw new BerthError('unavailable', 'bench.command', `${engine.title}: ${what} ended with ${exitCode}: ${stderr}`);
}

function engineParticipant(run: BenchRun, engine: EngineSide): Participant {
  const { api, title, isVm, image } = engine;
  let count = 0;
  return {
    side: title,
    once: async () => {
      count += 1;
      const id = await api.create({ name: `${run.prefix}-start-${count}`, image, args: ['uname', '-r'] });
      const beforeAttach = monotonicMs();
      const output = await api.attach(id);
      try {
        const began = engine.attachMakes ? beforeAttach : monotonicMs();
        const [{ line, atMs }] = await Promise.all([output.first, api.start(id)]);
        checkKernel({ side: title, isVm, printed: line, hostKernel: run.hostKernel });
        return atMs - began;
      } finally {
        output.close();
        await api.withoutSignal().remove(id);
      }
    },
  };
}
