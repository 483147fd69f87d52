/**
 * `fork`: from the request to fork a running VM of 256 MiB to its answer, when the fork's processes go on under a name and an
 * address of their own; and further to the fork's answer to an exec.
 *
 * That it is a fork, and no new VM from the same disk, shows in what only memory holds: a word the warmed process left in a
 * tmpfs, and the boot id of the kernel.
 */
import { BerthError, MIB } from '#base';
import { monotonicMs, sleep } from '#platform';
import type { BenchRun } from './bench-run.ts';
import { forkVm } from './berth-extras.ts';
import { interleave } from './interleave.ts';
import { checkKernel } from './kernel-check.ts';
import type { Measure } from './report.ts';
import type { EngineSide } from './sides/engine-side.ts';

const MEMORY_BYTES = 256 * MIB;
const WARM_DEADLINE_MS = 60_000;
const POLL_MS = 50;
/** Writes 32 MiB of memory and counts, so that there is state worth keeping; then leaves its word. */
const WARM_UP =
  'dd if=/dev/zero of=/dev/shm/ballast bs=1M count=32 2>/dev/null; ' +
  'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo "warm-$i" >/dev/shm/word; sleep 1000000';
const WORD = 'warm-20000';
const QUESTION = ['sh', '-c', 'cat /dev/shm/word /proc/sys/kernel/random/boot_id; uname -r'];

export interface ForkPlan {
  readonly berth: EngineSide;
  readonly pairs: number;
}

/** @throws bench.no_fork (unsupported), bench.check (data_loss), bench.engine (unavailable). */
export async function benchFork(run: BenchRun, { berth, pairs }: ForkPlan): Promise<Measure[]> {
  const { api, image, title } = berth;
  const parent = await api.create({
    name: `${run.prefix}-fork-parent`,
    image,
    args: ['sh', '-c', WARM_UP],
    memoryBytes: MEMORY_BYTES,
  });
  try {
    await api.start(parent);
    const expected = await warmAnswer(run, berth, parent);
    const answered: number[] = [];
    const once = async (): Promise<number> => {
      const began = monotonicMs();
      const [fork] = await forkVm(api, parent, 1);
      const forkedMs = monotonicMs() - began;
      if (fork === undefined) throw mismatch(title, 'no VM', 'one fork');
      try {
        const answer = await api.exec(fork.id, QUESTION);
        answered.push(monotonicMs() - began);
        if (answer !== expected) throw mismatch(title, answer, expected);
        return forkedMs;
      } finally {
        await api.withoutSignal().remove(fork.id);
      }
    };
    const values = await interleave([{ side: title, once }], {
      rounds: pairs,
      warmUps: 1,
      signal: run.signal,
      onProgress: (line) => run.onProgress(`fork: ${line}`),
    });
    const check = 'word in a tmpfs, boot id and kernel are the parent’s';
    const forked = values.get(title) ?? [];
    const measure = (id: string, name: string, of: readonly number[]): Measure => ({
      id,
      title: `fork of a warmed 256 MiB VM${name}`,
      unit: 'ms',
      series: [{ side: title, values: of, check }],
    });
    // Without those of the warm-up.
    return [measure('fork', '', forked), measure('fork-exec', ' → its exec answered', answered.slice(-forked.length))];
  } finally {
    await api.withoutSignal().remove(parent);
  }
}

/** What the parent answers once it has warmed up. */
async function warmAnswer(run: BenchRun, berth: EngineSide, parent: string): Promise<string> {
  const until = monotonicMs() + WARM_DEADLINE_MS;
  for (;;) {
    const answer = await berth.api.exec(parent, QUESTION);
    const [word, bootId = '', printed = ''] = answer.trimEnd().split('\n');
    if (word === WORD && bootId !== '') {
      checkKernel({ side: berth.title, isVm: true, printed, hostKernel: run.hostKernel });
      return answer;
    }
    if (monotonicMs() > until) throw mismatch(berth.title, answer, `${WORD} within ${WARM_DEADLINE_MS / 1000} s`);
    await sleep(POLL_MS, run.signal);
  }
}

function mismatch(side: string, found: string, expected: string): BerthError {
  const what = `${side}: the fork said ${JSON.stringify(found)}; expected ${JSON.stringify(expected)}`;
  return new BerthError('data_loss', 'bench.check', what);
}
