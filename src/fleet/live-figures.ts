/** What running VMs take just now: from counters read twice, or from what the hypervisor measured last. */
import { nowMs, sleep } from '#platform';
import type { DriverSession, VmPeriod, VmSample } from './driver.ts';

export interface LiveFigures {
  readonly vm: string;
  readonly name: string;
  readonly source: string;
  readonly host: string | null;
  /** Of one processor: 2 is two of them. Null without two looks at the same run. */
  readonly cpuShare: number | null;
  readonly memoryUsedBytes: number | null;
  readonly diskReadBytesPerSecond: number | null;
  readonly diskWrittenBytesPerSecond: number | null;
  readonly receivedBytesPerSecond: number | null;
  readonly sentBytesPerSecond: number | null;
}

/** Whoever measures by itself does so each minute at least, and has the last one a moment later. */
const LAST_PERIODS_MS = 150_000;

interface NamedVm {
  readonly vm: string;
  readonly name: string;
  readonly source: string;
  readonly host: string | null;
}

/** @param session - of a source that is up; a source that does not answer has no live figures, and `source ls` says why. */
export async function liveFigures(
  session: () => DriverSession,
  how: { readonly intervalMs: number; readonly named: (nativeId: string) => NamedVm | undefined },
): Promise<readonly LiveFigures[]> {
  const named = <T extends { readonly nativeId: string }>(
    all: readonly T[],
    figures: (vm: NamedVm, one: T) => LiveFigures,
  ): LiveFigures[] =>
    all.flatMap((one) => {
      const vm = how.named(one.nativeId);
      return vm === undefined ? [] : [figures(vm, one)];
    });
  try {
    const { samples, periods } = session();
    if (samples !== undefined) {
      const before = new Map((await samples.read()).map((one) => [one.nativeId, one]));
      await sleep(how.intervalMs);
      const now = (await session().samples?.read()) ?? [];
      return named(now, (vm, one) => counted(vm, before.get(one.nativeId), one));
    }
    const sinceMs = nowMs() - LAST_PERIODS_MS;
    const running = new Set<string>();
    const last = new Map<string, VmPeriod>();
    for await (const page of periods?.read({ vms: () => sinceMs, hosts: () => undefined }) ?? []) {
      for (const nativeId of page.running) running.add(nativeId);
      for (const one of page.periods) last.set(one.nativeId, one);
    }
    return named(
      [...last.values()].filter((one) => running.has(one.nativeId)),
      measuredIn,
    );
  } catch {
    return [];
  }
}

function counted(vm: NamedVm, before: VmSample | undefined, now: VmSample): LiveFigures {
  const seconds = before === undefined ? 0 : (now.atMs - before.atMs) / 1_000;
  // A counter that is smaller than it was began anew: it says nothing about the time between.
  const rate = (
    key: 'cpuNanoseconds' | 'diskReadBytes' | 'diskWrittenBytes' | 'receivedBytes' | 'sentBytes',
  ): number | null => {
    const [was, is] = [before?.[key] ?? null, now[key]];
    return was === null || is === null || is < was || seconds <= 0 ? null : Number(is - was) / seconds;
  };
  const cpu = rate('cpuNanoseconds');
  return {
    ...vm,
    cpuShare: cpu === null ? null : cpu / 1e9,
    memoryUsedBytes: now.memoryUsedBytes === null ? null : Number(now.memoryUsedBytes),
    diskReadBytesPerSecond: rate('diskReadBytes'),
    diskWrittenBytesPerSecond: rate('diskWrittenBytes'),
    receivedBytesPerSecond: rate('receivedBytes'),
    sentBytesPerSecond: rate('sentBytes'),
  };
}

function measuredIn(vm: NamedVm, period: VmPeriod): LiveFigures {
  const seconds = (period.endMs - period.startMs) / 1_000;
  const rate = (amount: bigint | null): number | null =>
    amount === null || seconds <= 0 ? null : Number(amount) / seconds;
  const cpu = rate(period.cpuNanoseconds);
  return {
    ...vm,
    cpuShare: cpu === null ? null : cpu / 1e9,
    memoryUsedBytes: period.memoryUsedBytes === null ? null : Number(period.memoryUsedBytes),
    diskReadBytesPerSecond: rate(period.diskReadBytes),
    diskWrittenBytesPerSecond: rate(period.diskWrittenBytes),
    receivedBytesPerSecond: rate(period.receivedBytes),
    sentBytesPerSecond: rate(period.sentBytes),
  };
}
