/**
 * `density`: how many idle VMs of 128 MiB live at once, and what one of them costs.
 *
 * First some VMs whose memory is looked at, then as many as the limit or the host's memory allows, then one sweep: each VM
 * is asked in turn for an answer, while listings are asked for at the same moments.
 */
import { MIB } from '#base';
import { monotonicMs, sleep } from '#platform';
import type { BenchRun } from './bench-run.ts';
import { countMoulds } from './berth-extras.ts';
import { answers } from './burst.ts';
import { VM_CHECK } from './kernel-check.ts';
import { availableMemoryBytes, type MemoryShares, memorySharesOf } from './proc-figures.ts';
import type { Measure } from './report.ts';
import type { EngineSide } from './sides/engine-side.ts';
import { median } from './statistics.ts';

const MEMORY_BYTES = 128 * MIB;
/** VMs whose memory is looked at. */
const SAMPLED = 20;
/** Memory that is left to the host: below it the kernel begins to drop what the VMs share. */
const SPARE_BYTES = 1536 * MIB;
const STARTS_AT_ONCE = 4;
/** An answer that takes longer is none. */
const ANSWER_LIMIT_MS = 1000;
/** Memory counts as settled when the median moves by less than a hundredth within this. */
const SETTLE_STEP_MS = 2_000;
const SETTLE_DEADLINE_MS = 30_000;
/** An engine that makes every machine alike is not waited for longer. */
const KNOWN_DEADLINE_MS = 20_000;
const KNOWN_STEP_MS = 250;
const MEGABYTE = 1e6;

export interface DensityPlan {
  readonly berth: EngineSide;
  /** As many VMs as there may be at most. */
  readonly vms: number;
}

/** @throws bench.check (data_loss), bench.engine (unavailable). */
export async function benchDensity(run: BenchRun, { berth, vms }: DensityPlan): Promise<Measure[]> {
  const { api, title } = berth;
  const ids: string[] = [];
  const startOne = async (): Promise<void> => {
    const name = `${run.prefix}-density-${ids.length}`;
    const at = ids.push('') - 1;
    const id = await api.create({
      name,
      image: berth.image,
      args: ['sleep', '1000000'],
      memoryBytes: MEMORY_BYTES,
    });
    await api.start(id);
    ids[at] = id;
  };
  const startUpTo = async (count: number): Promise<void> => {
    while (ids.length < count) {
      run.signal.throwIfAborted();
      if ((await availableMemoryBytes()) < SPARE_BYTES + STARTS_AT_ONCE * MEMORY_BYTES) return;
      await Promise.all(Array.from({ length: Math.min(STARTS_AT_ONCE, count - ids.length) }, startOne));
      run.onProgress(`density: ${ids.length} of ${count} VMs live`);
    }
  };
  try {
    // Once a size is known (and the usual one, of which machines always wait), its machines are made in another way than the very first: that is what hundreds of them cost.
    const before = await countMoulds(api);
    await startUpTo(1);
    const until = monotonicMs() + KNOWN_DEADLINE_MS;
    while (monotonicMs() < until && (await countMoulds(api)) < Math.max(before + 1, 2))
      await sleep(KNOWN_STEP_MS, run.signal);
    await startUpTo(Math.min(SAMPLED, vms));
    for (const id of ids) await answers(run, berth, { id, token: id });
    const shares = await settledShares(run, await Promise.all(ids.map((id) => api.pidOf(id))));
    await startUpTo(vms);
    const sweep = await sweepOnce(run, berth, ids);
    const live = sweep.answersMs.filter((ms) => ms <= ANSWER_LIMIT_MS).length;
    const check = `each answered with its own token; ${VM_CHECK}`;
    const one = (id: string, title_: string, unit: Measure['unit'], values: readonly number[]): Measure => ({
      ...{ id, title: title_, unit },
      series: [{ side: title, values, check }],
    });
    const megabytes = (of: (share: MemoryShares) => number): number[] => shares.map((share) => of(share) / MEGABYTE);
    return [
      one(
        'pss',
        'memory of an idle VM of 128 MiB (PSS)',
        'MB',
        megabytes(({ pssBytes }) => pssBytes),
      ),
      one(
        'private',
        'of it, private and written',
        'MB',
        megabytes((share) => share.privateDirtyBytes),
      ),
      one(
        'shared',
        'beside it, shared with others, in full',
        'MB',
        megabytes((share) => share.sharedBytes),
      ),
      one('live', `VMs live at once (of ${ids.length} started) that answer an exec within 1 s`, 'VMs', [live]),
      one('sweep-exec', 'an exec, each VM in turn', 'ms', sweep.answersMs),
      one('sweep-list', 'GET /containers/json?limit=1 meanwhile', 'ms', sweep.listsMs),
    ];
  } finally {
    await api.withoutSignal().removeAll(`${run.prefix}-density-`);
  }
}

async function settledShares(run: BenchRun, pids: readonly number[]): Promise<MemoryShares[]> {
  const until = monotonicMs() + SETTLE_DEADLINE_MS;
  const look = (): Promise<MemoryShares[]> => Promise.all(pids.map((pid) => memorySharesOf(pid)));
  const middle = (shares: readonly MemoryShares[]): number => median(shares.map(({ pssBytes }) => pssBytes));
  let before = await look();
  for (;;) {
    await sleep(SETTLE_STEP_MS, run.signal);
    const now = await look();
    if (Math.abs(middle(now) / middle(before) - 1) < 0.01 || monotonicMs() > until) return now;
    before = now;
  }
}

async function sweepOnce(
  run: BenchRun,
  berth: EngineSide,
  ids: readonly string[],
): Promise<{ readonly answersMs: number[]; readonly listsMs: number[] }> {
  const answersMs: number[] = [];
  const listsMs: number[] = [];
  const timed = async (into: number[], work: () => Promise<unknown>): Promise<void> => {
    const began = monotonicMs();
    await work();
    into.push(monotonicMs() - began);
  };
  for (const [index, id] of ids.entries()) {
    await Promise.all([
      timed(answersMs, () => answers(run, berth, { id, token: id })),
      timed(listsMs, () => berth.api.call('GET', '/containers/json?limit=1')),
    ]);
    run.onProgress(`density: ${index + 1} of ${ids.length} VMs asked`);
  }
  return { answersMs, listsMs };
}
