/** Which hosts' idle time and overhead is shared out together, and among whose usage. Pure. */
import type { Exact } from '../exact.ts';
import type { CardVersion } from '../rate-card/card.ts';
import { windowStart } from '../usage/time-cuts.ts';
import type { HostRecord } from '../usage/usage-records.ts';
import { versionAt } from './attribution.ts';
import type { RatingFrame, UsageGroup } from './priced-usage.ts';

/** A host in one charge's time, with the usage of the VMs on its machine in it. */
export interface HostWindow {
  readonly version: CardVersion;
  readonly windowMs: number;
  /** All of one source and host; they may be of several machines, one after the other. */
  readonly records: readonly HostRecord[];
  /** Amounts are of these machines only. */
  readonly groups: readonly UsageGroup[];
}

interface OpenWindow extends HostWindow {
  readonly records: HostRecord[];
  readonly groups: UsageGroup[];
}

/** A machine that two hosts describe within one charge's time has two windows, and each is shared among all its VMs. */
export function hostWindows(
  { card }: RatingFrame,
  hosts: readonly HostRecord[],
  groups: readonly UsageGroup[],
): HostWindow[] {
  const windows = new Map<string, OpenWindow>();
  const byMachine = new Map<string, Set<OpenWindow>>();
  const keyOf = (words: readonly string[], windowMs: number, version: CardVersion): string =>
    JSON.stringify([...words, windowMs, version.version]);
  for (const record of hosts) {
    const version = versionAt(card, record.startMs);
    if (version === undefined) continue;
    const windowMs = windowStart(record.startMs, card.chargePer);
    const key = keyOf([record.source, record.host], windowMs, version);
    const window = windows.get(key) ?? { version, windowMs, records: [], groups: [] };
    window.records.push(record);
    windows.set(key, window);
    const machineKey = keyOf([record.machine], windowMs, version);
    byMachine.set(machineKey, (byMachine.get(machineKey) ?? new Set()).add(window));
  }
  for (const group of groups) {
    if (group.resource !== 'vcpu' && group.resource !== 'memory') continue;
    const amounts = new Map<OpenWindow, Exact>();
    for (const [machine, amount] of group.byMachine)
      for (const window of byMachine.get(keyOf([machine], group.windowMs, group.version)) ?? [])
        amounts.set(window, amounts.get(window)?.plus(amount) ?? amount);
    for (const [window, amount] of amounts) window.groups.push({ ...group, amount });
  }
  return [...windows.values()];
}
