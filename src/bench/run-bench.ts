/** One benchmark from its options to its report: the machine looked at, the sides opened, measured, judged, closed. */
import { BerthError } from '#base';
import { hostFacts, hostLoad, nowMs, onSignals } from '#platform';
import type { Installation } from '#setup';
import type { BenchRun } from './bench-run.ts';
import { benchBurst } from './burst.ts';
import { benchDensity } from './density.ts';
import { benchFork } from './fork.ts';
import { benchIdle } from './idle.ts';
import { refuseBusyMachine } from './machine-guard.ts';
import { judge } from './promises.ts';
import type { BenchVerb, Measure, Report } from './report.ts';
import type { EngineSide } from './sides/engine-side.ts';
import { type OpenSides, openSides } from './sides/open-sides.ts';
import type { SideId } from './sides/side-names.ts';
import { benchStart } from './start.ts';
import { benchWake } from './wake.ts';

export interface BenchOptions {
  readonly verb: BenchVerb;
  /** Rounds in which each side is measured once; absent: as many as the benchmark needs. */
  readonly pairs?: number | undefined;
  /** VMs of `burst`, `density` and `idle`. */
  readonly vms?: number | undefined;
  /** How long `idle` looks. */
  readonly seconds?: number | undefined;
  /** Absent: all that the benchmark compares. */
  readonly sides?: readonly SideId[] | undefined;
  /** A berth daemon that runs already. */
  readonly socket?: string | undefined;
  /** Measure on a busy machine as well. */
  readonly force: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly isRoot: boolean;
  readonly installation: Installation;
  readonly onProgress: (line: string) => void;
}

/** 0.05 % of a core over a minute are 3 ticks of a process; ten processes make 30. */
const IDLE_SECONDS = 60;

interface Counts {
  readonly pairs: number;
  readonly vms: number;
  readonly seconds: number;
}

interface BenchPlan {
  /** What it compares when nothing is said. */
  readonly sides: readonly SideId[];
  readonly pairs: number;
  readonly vms: number;
  readonly measure: (run: BenchRun, sides: OpenSides, counts: Counts) => Promise<Measure[]>;
}

const PLANS: Readonly<Record<BenchVerb, BenchPlan>> = {
  start: {
    sides: ['berth', 'cold', 'dockerd', 'podman', 'bare', 'template'],
    pairs: 30,
    vms: 0,
    measure: (run, { engines, bares }, { pairs }) => benchStart(run, { engines, bares, pairs }),
  },
  burst: {
    sides: ['berth', 'dockerd', 'podman'],
    pairs: 4,
    vms: 100,
    measure: (run, { engines }, { pairs, vms }) => benchBurst(run, { engines, rounds: pairs, vms }),
  },
  density: {
    sides: ['berth'],
    pairs: 1,
    vms: 300,
    measure: (run, sides, { vms }) => benchDensity(run, { berth: berthOf(sides), vms }),
  },
  idle: {
    sides: ['berth', 'dockerd', 'bare'],
    pairs: 1,
    vms: 10,
    measure: (run, { engines, machine }, { vms, seconds }) => benchIdle(run, { engines, machine, vms, seconds }),
  },
  fork: {
    sides: ['berth'],
    pairs: 30,
    vms: 0,
    measure: (run, sides, { pairs }) => benchFork(run, { berth: berthOf(sides), pairs }),
  },
  wake: {
    sides: ['berth'],
    pairs: 100,
    vms: 0,
    measure: (run, sides, { pairs }) => benchWake(run, { berth: berthOf(sides), pairs }),
  },
};

/** @throws bench.needs_berth (invalid) when it was left out. */
function berthOf({ engines }: OpenSides): EngineSide {
  const berth = engines.find(({ id }) => id === 'berth');
  if (berth !== undefined) return berth;
  throw new BerthError('invalid', 'bench.needs_berth', 'this benchmark measures berth alone', {
    hint: 'leave --sides out, or name berth in it',
  });
}

/** @throws bench.busy (conflict), bench.cancelled (cancelled), and what the sides and the benchmark throw. */
export async function runBench(options: BenchOptions): Promise<Report> {
  if (!options.force) await refuseBusyMachine();
  const load = hostLoad();
  const plan = PLANS[options.verb];
  const cancel = new AbortController();
  const forget = onSignals(['SIGINT', 'SIGTERM', 'SIGHUP'], (name) => {
    options.onProgress(`${name}: cleaning up\n`);
    cancel.abort(new BerthError('cancelled', 'bench.cancelled', `the benchmark was ended by ${name}`));
  });
  const { kernelVersion, cpus, cpuModel, memoryBytes } = hostFacts();
  const run: BenchRun = {
    installation: options.installation,
    signal: cancel.signal,
    hostKernel: kernelVersion,
    prefix: `bench-${process.pid}`,
    env: Object.fromEntries(
      Object.entries(options.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
    ),
    onProgress: options.onProgress,
  };
  let sides: OpenSides | undefined;
  try {
    sides = await openSides(run, {
      ids: options.sides ?? plan.sides,
      socket: options.socket,
      env: options.env,
      isRoot: options.isRoot,
    });
    const measures = await plan.measure(run, sides, {
      pairs: options.pairs ?? plan.pairs,
      vms: options.vms ?? plan.vms,
      seconds: options.seconds ?? IDLE_SECONDS,
    });
    return {
      verb: options.verb,
      at: new Date(nowMs()).toISOString(),
      machine: { cpus, cpuModel, memoryBytes, kernel: kernelVersion, load },
      sides: sides.facts,
      missing: sides.missing,
      measures,
      verdicts: judge(options.verb, measures, sides.missing),
    };
  } finally {
    await sides?.close();
    forget();
  }
}
