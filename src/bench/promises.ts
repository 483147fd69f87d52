/** What SPECIFICATION.md promises of each benchmark, and whether measured values keep it. Pure. */
import type { BenchVerb, Measure, MissingSide, Unit, Verdict } from './report.ts';
import { SIDE_TITLES, type SideId } from './sides/side-names.ts';
import { mean, median, medianRatioInterval, p99 } from './statistics.ts';

const STATISTICS = { median, p99, mean } as const;

interface PromisedFigure {
  readonly verb: BenchVerb;
  readonly claim: string;
  /** Id of a measure. */
  readonly measure: string;
  readonly of: keyof typeof STATISTICS;
  readonly side: SideId;
  /** The figure is a ratio: `side` ÷ `to`. */
  readonly to?: SideId;
  readonly unit: Unit | 'ratio';
  readonly sense: 'at most' | 'at least';
  readonly must: number;
  readonly aim: number;
}

/** Any seed does; one that stays lets two people get the same interval from the same JSON. */
const BOOTSTRAP_SEED = 20_261_122;

const CLAIMS: Readonly<Record<string, string>> = {
  pss: 'memory (PSS) an idle VM of 128 MiB adds',
  live: 'live VMs of 128 MiB, each answering an exec within 1 s',
  'sweep-list': 'listing while they are swept',
  idle: 'processor an idle VM takes, of one core',
  fork: 'fork of a warmed 256 MiB VM',
  wake: 'connection to a sleeping VM → first byte',
};

const PROMISES: readonly PromisedFigure[] = [
  ratio({
    verb: 'start',
    claim: 'docker run --rm',
    measure: 'run',
    of: 'median',
    side: 'berth',
    to: 'dockerd',
    must: 1,
    aim: 0.6,
  }),
  ratio({
    verb: 'start',
    claim: 'docker run --rm',
    measure: 'run',
    of: 'p99',
    side: 'berth',
    to: 'dockerd',
    must: 1.5,
    aim: 1,
  }),
  ratio({
    verb: 'start',
    claim: 'POST start → first byte',
    measure: 'first-byte',
    of: 'median',
    side: 'berth',
    to: 'cold',
    must: 1 / 15,
    aim: 1 / 40,
  }),
  ratio({
    verb: 'burst',
    claim: 'all started at once → last exec answered',
    measure: 'burst',
    of: 'median',
    side: 'berth',
    to: 'dockerd',
    must: 1,
    aim: 0.5,
  }),
  figure({ verb: 'density', measure: 'pss', of: 'median', unit: 'MB', sense: 'at most', must: 24, aim: 14 }),
  figure({ verb: 'density', measure: 'live', of: 'median', unit: 'VMs', sense: 'at least', must: 300, aim: 1000 }),
  figure({ verb: 'density', measure: 'sweep-list', of: 'p99', unit: 'ms', sense: 'at most', must: 200, aim: 200 }),
  figure({ verb: 'idle', measure: 'idle', of: 'mean', unit: '%', sense: 'at most', must: 0.2, aim: 0.05 }),
  figure({ verb: 'fork', measure: 'fork', of: 'median', unit: 'ms', sense: 'at most', must: 100, aim: 50 }),
  figure({ verb: 'wake', measure: 'wake', of: 'p99', unit: 'ms', sense: 'at most', must: 150, aim: 60 }),
];

function ratio(one: Omit<PromisedFigure, 'unit' | 'sense'>): PromisedFigure {
  return { ...one, unit: 'ratio', sense: 'at most' };
}

function figure(one: Omit<PromisedFigure, 'claim' | 'side'>): PromisedFigure {
  return { ...one, side: 'berth', claim: CLAIMS[one.measure] ?? one.measure };
}

/** One verdict for each promise of `verb`, in the order of the table. */
export function judge(
  verb: BenchVerb,
  measures: readonly Measure[],
  missing: readonly MissingSide[],
): readonly Verdict[] {
  return PROMISES.filter((one) => one.verb === verb).map((one) => {
    const common = { claim: claimOf(one), unit: one.unit, sense: one.sense, must: one.must, aim: one.aim };
    const valuesOf = (side: SideId): readonly number[] =>
      measures.find((measure) => measure.id === one.measure)?.series.find((each) => each.side === SIDE_TITLES[side])
        ?.values ?? [];
    const absent = [one.side, one.to].find((side) => side !== undefined && valuesOf(side).length === 0);
    if (absent !== undefined) return { ...common, outcome: 'not measured', why: whyAbsent(absent, missing) };
    const above = valuesOf(one.side);
    const statistic = STATISTICS[one.of];
    const below = one.to === undefined ? undefined : valuesOf(one.to);
    const value = statistic(above) / (below === undefined ? 1 : statistic(below));
    const holds = one.sense === 'at most' ? value <= one.must : value >= one.must;
    return {
      ...common,
      value,
      ...(below !== undefined && one.of === 'median'
        ? { interval: medianRatioInterval(above, below, BOOTSTRAP_SEED) }
        : {}),
      outcome: holds ? 'holds' : 'does not hold',
    };
  });
}

function claimOf(one: PromisedFigure): string {
  if (one.to === undefined) return `${one.claim}, ${one.of}`;
  return `${one.claim}: ${SIDE_TITLES[one.side]} ÷ ${SIDE_TITLES[one.to]}, ${one.of}`;
}

function whyAbsent(side: SideId, missing: readonly MissingSide[]): string {
  const found = missing.find((one) => one.side === SIDE_TITLES[side]);
  if (found === undefined) return `${SIDE_TITLES[side]} was not among the sides`;
  return `${found.side}: ${found.why}${found.package === undefined ? '' : `; install the package ${found.package}`}`;
}
