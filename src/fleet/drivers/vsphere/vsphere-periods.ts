/**
 * What vSphere itself measured, in its real-time periods of 20 seconds, which it keeps for an hour.
 *
 * A period is told by its end. Averages are rates: their amount is rate × length; `cpu.used` is a sum already. Pure but for the
 * calls.
 *
 * @source vSphere Web Services API reference: PerformanceManager, QueryPerf, PerfEntityMetric; performance counters (names are
 *   facts)
 */
import type { VmPeriod } from '../../driver.ts';
import { childAt, childrenNamed, textAt, type XmlElement } from '../../xml.ts';
import { element, type Moref, morefOf, reference, type Xml } from './soap.ts';

export const PERIOD_SECONDS = 20;
/** A host keeps its real-time periods for an hour. */
const MOST_PERIODS = 180;

type Amount = Exclude<keyof VmPeriod, 'nativeId' | 'startMs' | 'endMs'>;

/** Group, name and rollup of a counter; what one of its units is in ours; and whether it is a rate. */
const COUNTERS: readonly {
  readonly name: string;
  readonly amount: Amount;
  readonly unit: bigint;
  readonly isRate: boolean;
}[] = [
  { name: 'cpu.used.summation', amount: 'cpuNanoseconds', unit: 1_000_000n, isRate: false },
  { name: 'mem.consumed.average', amount: 'memoryUsedBytes', unit: 1024n, isRate: false },
  { name: 'disk.read.average', amount: 'diskReadBytes', unit: 1024n, isRate: true },
  { name: 'disk.write.average', amount: 'diskWrittenBytes', unit: 1024n, isRate: true },
  { name: 'net.bytesRx.average', amount: 'receivedBytes', unit: 1024n, isRate: true },
  { name: 'net.bytesTx.average', amount: 'sentBytes', unit: 1024n, isRate: true },
];

/** Keys of the counters that are wanted, as this server numbers them. */
export type CounterKeys = ReadonlyMap<string, (typeof COUNTERS)[number]>;

/** @param property - the performance manager's `perfCounter`. */
export function counterKeys(property: XmlElement | undefined): CounterKeys {
  const keys = new Map<string, (typeof COUNTERS)[number]>();
  for (const info of childrenNamed(property, 'PerfCounterInfo')) {
    const words = [textAt(info, 'groupInfo', 'key'), textAt(info, 'nameInfo', 'key'), textAt(info, 'rollupType')];
    const counter = COUNTERS.find((one) => one.name === words.join('.'));
    const key = textAt(info, 'key');
    if (counter !== undefined && key !== undefined) keys.set(key, counter);
  }
  return keys;
}

/** Periods of a VM or host that ended after `sinceMs` and until `untilMs`, by the server's clock. @param keys - by the counters' numbers. */
export function periodSpec(
  entity: Moref,
  keys: ReadonlyMap<string, unknown>,
  { sinceMs, untilMs }: { readonly sinceMs: number; readonly untilMs: number },
): Xml {
  return element(
    'querySpec',
    reference('entity', entity),
    element('startTime', new Date(sinceMs).toISOString()),
    element('endTime', new Date(untilMs).toISOString()),
    element('maxSample', MOST_PERIODS),
    ...[...keys.keys()].map((key) => element('metricId', element('counterId', key), element('instance', ''))),
    element('intervalId', PERIOD_SECONDS),
    element('format', 'normal'),
  );
}

/** The end of the last period that was over by then. */
export function wholePeriods(atMs: number): number {
  const lengthMs = PERIOD_SECONDS * 1_000;
  return Math.floor(atMs / lengthMs) * lengthMs;
}

/** Of one QueryPerf: each VM's periods in their order. A figure that vSphere does not have (-1) is null. */
export function periodsOf(response: XmlElement, keys: CounterKeys): VmPeriod[] {
  return childrenNamed(response, 'returnval').flatMap((metric) => {
    const nativeId = morefOf(childAt(metric, 'entity'))?.id;
    if (nativeId === undefined) return [];
    const series = childrenNamed(metric, 'value').flatMap((one) => {
      const counter = keys.get(textAt(one, 'id', 'counterId') ?? '');
      const isWhole = (textAt(one, 'id', 'instance') ?? '') === '';
      return counter === undefined || !isWhole ? [] : [{ counter, values: childrenNamed(one, 'value') }];
    });
    const periods = childrenNamed(metric, 'sampleInfo').flatMap((info, at): VmPeriod[] => {
      const endMs = Date.parse(textAt(info, 'timestamp') ?? '');
      const seconds = Number(textAt(info, 'interval') ?? PERIOD_SECONDS);
      if (!Number.isFinite(endMs) || !Number.isInteger(seconds) || seconds < 1) return [];
      const amounts: Record<Amount, bigint | null> = {
        cpuNanoseconds: null,
        memoryUsedBytes: null,
        diskReadBytes: null,
        diskWrittenBytes: null,
        receivedBytes: null,
        sentBytes: null,
      };
      for (const { counter, values } of series) {
        const text = values[at]?.text ?? '';
        if (!/^[0-9]{1,18}$/.test(text)) continue;
        amounts[counter.amount] = BigInt(text) * counter.unit * (counter.isRate ? BigInt(seconds) : 1n);
      }
      return [{ nativeId, startMs: endMs - seconds * 1_000, endMs, ...amounts }];
    });
    return periods.sort((a, b) => a.endMs - b.endMs);
  });
}
