/**
 * What a host's xcp-rrdd measured of its VMs and of itself: averages over one minute, kept for two hours, from `/rrd_updates`. Pure.
 *
 *     {"meta":{"start":…,"step":60,"end":…,"legend":["AVERAGE:vm:UUID:cpu0",…]},"data":[{"t":1763805600,"values":[0.25,…]},…]}
 *
 * A row's time is its end. Figures are rates per second: their amount is rate × step. Processor time is told for each vCPU as
 * the part of a processor that it had. Numbers are text from XAPI 23.31 on, and NaN where nothing was measured; before that
 * NaN may stand bare, which is no JSON.
 *
 * @source XAPI's metrics documentation (names are facts)
 */
import * as v from 'valibot';
import { BerthError } from '#base';
import type { HostPeriod, VmPeriod } from '../../driver.ts';

export const STEP_SECONDS = 60;
/** The handler's own clock is not ours: asked for a little earlier than wanted. */
const MOST_COLUMNS = 400_000;
const MOST_ROWS = 1_000;
/** More than any machine does in a second; beyond it is no measurement. */
const MOST_RATE = 1e13;

type Amount = Exclude<keyof VmPeriod, 'nativeId' | 'startMs' | 'endMs' | 'memoryUsedBytes'>;

const number = v.union([
  v.number(),
  v.null(),
  v.pipe(
    v.string(),
    v.transform((text) => Number(text.trim() === '' ? Number.NaN : text)),
  ),
]);
const UpdatesSchema = v.object({
  meta: v.object({
    step: v.pipe(number, v.number(), v.integer(), v.minValue(1), v.maxValue(86_400)),
    legend: v.pipe(v.array(v.string()), v.maxLength(MOST_COLUMNS)),
  }),
  data: v.pipe(
    v.array(v.object({ t: v.pipe(number, v.number(), v.finite()), values: v.array(number) })),
    v.maxLength(MOST_ROWS),
  ),
});

/** Which data source of a VM counts as what; its unit in ours is `perSecond`. */
const SOURCES: readonly { readonly name: RegExp; readonly amount: Amount; readonly perSecond: number }[] = [
  { name: /^cpu[0-9]{1,4}$/, amount: 'cpuNanoseconds', perSecond: 1e9 },
  { name: /^vbd_[a-z0-9]+_read$/, amount: 'diskReadBytes', perSecond: 1 },
  { name: /^vbd_[a-z0-9]+_write$/, amount: 'diskWrittenBytes', perSecond: 1 },
  { name: /^vif_[0-9]+_rx$/, amount: 'receivedBytes', perSecond: 1 },
  { name: /^vif_[0-9]+_tx$/, amount: 'sentBytes', perSecond: 1 },
];

/** Periods that ended after `sinceMs`, by the host's clock; `shiftMs` turns it into ours. */
interface Span {
  readonly sinceMs: number;
  readonly shiftMs: number;
}

interface Column {
  readonly at: number;
  readonly source: string;
}

/**
 * @returns in the order of time for each VM, control domains among them. @throws xapi.malformed (invalid)
 */
export function periodsOf(text: string, span: Span): VmPeriod[] {
  const { meta, data } = parsedUpdates(text);
  const byVm = new Map<string, Column[]>();
  for (const [at, entry] of meta.legend.entries()) {
    const [, uuid, source] = /^AVERAGE:vm:([0-9a-f-]{36}):([A-Za-z0-9_-]{1,100})$/.exec(entry) ?? [];
    if (uuid === undefined || source === undefined) continue;
    const columns = byVm.get(uuid) ?? [];
    columns.push({ at, source });
    byVm.set(uuid, columns);
  }
  const rows = data.filter((row) => row.t * 1_000 > span.sinceMs).sort((a, b) => a.t - b.t);
  return [...byVm].flatMap(([nativeId, columns]) =>
    rows.flatMap(({ t, values }) => {
      const amounts = amountsOf(columns, values, meta.step);
      if (Object.values(amounts).every((one) => one === null)) return [];
      const endMs = t * 1_000 - span.shiftMs;
      return [{ nativeId, startMs: endMs - meta.step * 1_000, endMs, ...amounts }];
    }),
  );
}

/**
 * Of the host itself: its processors' time that was not idle, as a part of all of them, and its memory.
 *
 * @param host - `threads` make processor time of that part; null: it is not known.
 */
export function hostPeriodsOf(
  text: string,
  host: { readonly uuid: string; readonly threads: number | null },
  span: Span,
): HostPeriod[] {
  const { meta, data } = parsedUpdates(text);
  const columnOf = (source: string): number => meta.legend.indexOf(`AVERAGE:host:${host.uuid}:${source}`);
  const [cpu, total, free] = [columnOf('cpu_avg'), columnOf('memory_total_kib'), columnOf('memory_free_kib')];
  const rows = data.filter((row) => row.t * 1_000 > span.sinceMs).sort((a, b) => a.t - b.t);
  return rows.flatMap(({ t, values }) => {
    const share = plain(values[cpu]);
    const [totalKib, freeKib] = [plain(values[total]), plain(values[free])];
    const busySeconds =
      share === undefined || host.threads === null ? undefined : Math.min(share, 1) * host.threads * meta.step;
    const usedKib = totalKib === undefined || freeKib === undefined ? undefined : totalKib - freeKib;
    const cpuNanoseconds = busySeconds === undefined ? null : BigInt(Math.round(busySeconds * 1e9));
    const memoryUsedBytes = usedKib === undefined || usedKib < 0 ? null : BigInt(Math.round(usedKib)) * 1024n;
    if (cpuNanoseconds === null && memoryUsedBytes === null) return [];
    const endMs = t * 1_000 - span.shiftMs;
    return [{ nativeId: host.uuid, startMs: endMs - meta.step * 1_000, endMs, cpuNanoseconds, memoryUsedBytes }];
  });
}

/** A device without a figure had not come yet: the others count. */
function amountsOf(
  columns: readonly Column[],
  values: readonly (number | null)[],
  seconds: number,
): Omit<VmPeriod, 'nativeId' | 'startMs' | 'endMs'> {
  const figure = (source: string): number | undefined => {
    const column = columns.find((one) => one.source === source);
    return column === undefined ? undefined : plain(values[column.at]);
  };
  const amounts: Record<Amount, bigint | null> = {
    cpuNanoseconds: null,
    diskReadBytes: null,
    diskWrittenBytes: null,
    receivedBytes: null,
    sentBytes: null,
  };
  for (const { at, source } of columns) {
    const kind = SOURCES.find(({ name }) => name.test(source));
    const rate = plain(values[at]);
    if (kind === undefined || rate === undefined) continue;
    const amount = BigInt(Math.round(rate * kind.perSecond * seconds));
    amounts[kind.amount] = (amounts[kind.amount] ?? 0n) + amount;
  }
  const given = figure('memory');
  const freeKib = figure('memory_internal_free');
  const used = given === undefined ? undefined : given - (freeKib ?? 0) * 1024;
  return { ...amounts, memoryUsedBytes: used === undefined || used < 0 ? null : BigInt(Math.round(used)) };
}

function plain(value: number | null | undefined): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 && value <= MOST_RATE ? value : undefined;
}

function parsedUpdates(text: string): v.InferOutput<typeof UpdatesSchema> {
  const parsed = v.safeParse(UpdatesSchema, jsonWithNaN(text));
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  const told = `${v.getDotPath(issue) ?? 'all of it'}: ${issue.message.slice(0, 200)}`;
  throw new BerthError('invalid', 'xapi.malformed', `the answer to rrd_updates is not what it should be: ${told}`);
}

function jsonWithNaN(text: string): unknown {
  for (const candidate of [text, text.replace(/([[,:]\s*)(-?(?:NaN|nan|Infinity|inf))(?=\s*[\],}])/g, '$1null')]) {
    try {
      return JSON.parse(candidate);
    } catch {
      // Bare NaN is tried next.
    }
  }
  return undefined;
}
