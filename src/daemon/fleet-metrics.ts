/** Sources, their VMs and what became of their hosts as metrics. */
import type { Metric, Sample } from '#docker';
import type { Fleet } from '#fleet';
import { monotonicMs } from '#platform';

const DAY_MS = 86_400_000;
/** A day of a host is three queries: an estate of a thousand hosts is not read at each scrape. */
const KEPT_MS = 60_000;
const PARTS = ['used', 'overhead', 'idle', 'unknown'] as const;

type Hours = ReturnType<Fleet['hostUse']['hours']>;

export class FleetMetrics {
  readonly #fleet: Fleet;
  #hours: { readonly readMs: number; readonly samples: readonly Metric[] } | undefined;

  constructor(fleet: Fleet) {
    this.#fleet = fleet;
  }

  /** @param nowMs - the time of day. */
  collect(nowMs: number): Metric[] {
    const { queries } = this.#fleet;
    const sources = this.#fleet.sources();
    return [
      gauge(
        'berth_source_up',
        'Whether a source answers: 1, or 0 when what is known of it is old.',
        sources.map(({ name, driver, state }) => ({ labels: { source: name, driver }, value: state === 'up' ? 1 : 0 })),
      ),
      gauge(
        'berth_source_seen_time_seconds',
        'When all of a source was last looked at, since the epoch.',
        sources.flatMap(({ name, okMs }) => (okMs === null ? [] : [{ labels: { source: name }, value: okMs / 1000 }])),
      ),
      gauge(
        'berth_source_vms',
        'VMs that a source shows.',
        queries.vmsBySource().map(({ source, vms }) => ({ labels: { source }, value: vms })),
      ),
      gauge(
        'berth_fleet_vms',
        'VMs of all sources by state; one that two of them show counts once.',
        queries.vmsByState().map(({ state, vms }) => ({ labels: { state }, value: vms })),
      ),
      ...this.#hosts(nowMs),
    ];
  }

  #hosts(nowMs: number): readonly Metric[] {
    const kept = this.#hours;
    if (kept !== undefined && monotonicMs() - kept.readMs < KEPT_MS) return kept.samples;
    const hours = this.#fleet.hostUse.hours({ fromMs: nowMs - DAY_MS, toMs: nowMs });
    const ofDay = 'in the hours of the last day: used by VMs, overhead, idle, or unknown because nothing was read.';
    const samples = [
      gauge(
        'berth_host_cpu_seconds',
        `What became of a host's processor time ${ofDay}`,
        sumsOf(hours, ({ cpuNs }) => cpuNs, 1_000_000_000),
      ),
      gauge(
        'berth_host_memory_byte_seconds',
        `What became of a host's memory ${ofDay}`,
        sumsOf(hours, ({ memoryKibMs }) => memoryKibMs, 1000 / 1024),
      ),
    ];
    this.#hours = { readMs: monotonicMs(), samples };
    return samples;
  }
}

function sumsOf(hours: Hours, sharesOf: (hour: Hours[number]) => Hours[number]['cpuNs'], unit: number): Sample[] {
  const sums = new Map<string, { readonly labels: Readonly<Record<string, string>>; amount: bigint }>();
  for (const hour of hours) {
    const shares = sharesOf(hour);
    for (const part of PARTS) {
      const labels = { source: hour.source, host: hour.host, part };
      const key = JSON.stringify(labels);
      const sum = sums.get(key) ?? { labels, amount: 0n };
      sum.amount += BigInt(shares[part]);
      sums.set(key, sum);
    }
  }
  return [...sums.values()].map(({ labels, amount }) => ({ labels, value: Number(amount) / unit }));
}

function gauge(name: string, help: string, samples: readonly Sample[]): Metric {
  return { name, help, type: 'gauge', samples };
}
