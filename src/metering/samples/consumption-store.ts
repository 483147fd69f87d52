/** The counters of VMs in a sample store: a series is `VM/counter`. */
import { COUNTERS, type Consumption, type Counter, type CounterSample } from '../usage/facts.ts';
import { HOUR_MS } from '../usage/time-cuts.ts';
import type { SampleStore } from './sample-store.ts';

/** Samples of one append: enough that a sync is shared by many, and few megabytes. */
const BATCH = 50_000;

/** Adds samples, in the order of time; those that are there already count nothing. */
export async function addSamples(store: SampleStore, samples: readonly CounterSample[]): Promise<void> {
  const rows = [...samples]
    .sort((a, b) => a.atMs - b.atMs)
    .flatMap(({ vm, atMs, counters }) =>
      COUNTERS.flatMap((counter) => {
        const value = counters[counter];
        return value === undefined ? [] : [{ series: store.series(`${vm}/${counter}`), atMs, value }];
      }),
    );
  for (let at = 0; at < rows.length; at += BATCH) {
    const batch = rows.slice(at, at + BATCH);
    await store.append({
      series: Uint32Array.from(batch, (row) => row.series),
      atMs: Float64Array.from(batch, (row) => row.atMs),
      value: BigUint64Array.from(batch, (row) => row.value),
    });
  }
}

/** What VMs consumed in a time, hour by hour. */
export function consumptionFrom(
  store: SampleStore,
  span: { readonly startMs: number; readonly endMs: number },
): Consumption[] {
  const names = store.seriesNames().map((name): { vm: string; counter: Counter } | undefined => {
    const slash = name.lastIndexOf('/');
    const counter = COUNTERS.find((one) => one === name.slice(slash + 1));
    return counter === undefined ? undefined : { vm: name.slice(0, slash), counter };
  });
  const consumed: Consumption[] = [];
  for (const { series, startMs, amount } of store.hours(span)) {
    const found = names[series];
    if (found !== undefined) consumed.push({ ...found, startMs, endMs: startMs + HOUR_MS, amount });
  }
  return consumed.sort((a, b) => a.startMs - b.startMs || compareText(a.vm, b.vm) || compareText(a.counter, b.counter));
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
