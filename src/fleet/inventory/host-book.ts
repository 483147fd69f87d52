/**
 * Hosts over time, and which of them are one machine. Where several sources show a machine at once, the one that knows most of its
 * memory describes it (a hypervisor's first domain sees a part), then the one with more threads, then the oldest source.
 */
import type { Database } from '#store';
import type { HostPresence } from '../consumption/utilization.ts';

const HOUR_MS = 3_600_000;

/** A time in which a host's name, capacity and machine stayed the same. */
export interface HostSpan extends HostPresence {
  readonly sourceId: number;
  readonly source: string;
  readonly nativeId: string;
  readonly key: string;
  readonly name: string;
  readonly machine: number;
}

/** A time in which one source described the machine, and the same others showed it. */
export interface MachineTime extends HostSpan {
  readonly also: readonly { readonly source: string; readonly host: string }[];
}

export interface HostId {
  readonly sourceId: number;
  readonly nativeId: string;
}

export interface PlacedTime {
  /** Undefined where the host was never described. */
  readonly machine: number | undefined;
  readonly startMs: number;
  readonly endMs: number;
}

interface Row {
  readonly source_id: number;
  readonly source: string;
  readonly native_id: string;
  readonly key: string;
  readonly name: string;
  readonly machine: number;
  readonly threads: number | null;
  readonly memory_bytes: number | null;
  readonly opened_ms: number;
  readonly end_ms: number;
}

export class HostBook {
  /** By host, in order of time. */
  readonly #spans = new Map<string, HostSpan[]>();
  readonly #machines = new Map<number, HostSpan[]>();
  readonly #byKey = new Map<string, Set<string>>();

  constructor(spans: readonly HostSpan[]) {
    for (const span of [...spans].sort((a, b) => a.startMs - b.startMs || a.endMs - b.endMs)) {
      into(this.#spans, idOf(span), span);
      into(this.#machines, span.machine, span);
      for (const key of [keyOf(span.sourceId, span.key), keyOf(span.sourceId, span.key, span.name)])
        this.#byKey.set(key, (this.#byKey.get(key) ?? new Set()).add(idOf(span)));
    }
  }

  /** @param confirmedBy - what still stands is known until the source's last whole look, or its last reading if that is later. */
  static read(database: Database, confirmedBy: 'look' | 'reading'): HostBook {
    const seen = confirmedBy === 'look' ? 'source.ok_ms' : 'MAX(source.ok_ms, COALESCE(source.sampled_ms, 0))';
    const rows = database.all<Row>(
      `SELECT s.source_id, source.name AS source, s.native_id, host.key, s.name, s.machine, s.threads, s.memory_bytes, s.opened_ms,
         COALESCE(s.closed_ms, source.removed_ms, ${seen}, host.last_ms) AS end_ms
       FROM host_span s CROSS JOIN source ON source.id = s.source_id
       CROSS JOIN host ON host.source_id = s.source_id AND host.native_id = s.native_id`,
    );
    return new HostBook(
      rows.map((row) => ({
        sourceId: row.source_id,
        source: row.source,
        nativeId: row.native_id,
        key: row.key,
        name: row.name,
        machine: row.machine,
        threads: Math.trunc(row.threads ?? 0),
        memoryBytes: row.memory_bytes ?? 0,
        startMs: row.opened_ms,
        endMs: row.end_ms,
      })),
    );
  }

  machines(): number[] {
    return [...this.#machines.keys()];
  }

  /** Who described the machine when: in order, never two at a time. */
  presences(machine: number): MachineTime[] {
    return oneAtATime(this.#machines.get(machine) ?? []);
  }

  /** Every host that ever was this machine, in an order that stays. */
  hostsOf(machine: number): HostId[] {
    const hosts = new Map((this.#machines.get(machine) ?? []).map((span) => [idOf(span), span]));
    return [...hosts.values()]
      .map(({ sourceId, nativeId }) => ({ sourceId, nativeId }))
      .sort((a, b) => a.sourceId - b.sourceId || (a.nativeId < b.nativeId ? -1 : 1));
  }

  /** What it is called now, or was last. */
  nameOf(host: HostId): string {
    return this.#spans.get(idOf(host))?.at(-1)?.name ?? '';
  }

  /** Every name the machine had in a time. */
  namesOf(machine: number, time: { readonly startMs: number; readonly endMs: number }): HostSpan[] {
    return (this.#machines.get(machine) ?? []).filter((one) => one.startMs < time.endMs && one.endMs > time.startMs);
  }

  /** What was read of a host in an hour is of the machine that it was last in it. */
  machineIn(host: HostId, hourMs: number): number | undefined {
    const spans = this.#spans.get(idOf(host)) ?? [];
    return (spans.findLast(({ startMs }) => startMs < hourMs + HOUR_MS) ?? spans[0])?.machine;
  }

  /** A time on a host, cut where the host becomes part of another machine. @param place - as VMs' intervals name it. */
  placed(
    place: { readonly sourceId: number; readonly hostKey: string | null; readonly hostName: string | null },
    { startMs, endMs }: { readonly startMs: number; readonly endMs: number },
  ): PlacedTime[] {
    const [first, ...more] = this.#spansOf(place);
    if (first === undefined) return [{ machine: undefined, startMs, endMs }];
    const pieces: { machine: number; startMs: number; endMs: number }[] = [{ machine: first.machine, startMs, endMs }];
    for (const span of more) {
      const last = pieces.at(-1);
      if (last === undefined || span.startMs >= endMs) break;
      if (span.machine === last.machine) continue;
      if (span.startMs <= last.startMs) last.machine = span.machine;
      else {
        last.endMs = span.startMs;
        pieces.push({ machine: span.machine, startMs: span.startMs, endMs });
      }
    }
    return pieces;
  }

  /** Two hosts of a source may have one key, when somebody copied a UUID: their names tell them apart then. */
  #spansOf(place: { sourceId: number; hostKey: string | null; hostName: string | null }): readonly HostSpan[] {
    const { sourceId, hostKey, hostName } = place;
    if (hostKey === null) return [];
    const sameKey = this.#byKey.get(keyOf(sourceId, hostKey)) ?? new Set();
    const found = sameKey.size === 1 ? sameKey : this.#byKey.get(keyOf(sourceId, hostKey, hostName ?? ''));
    const [id] = found?.size === 1 ? found : [];
    return id === undefined ? [] : (this.#spans.get(id) ?? []);
  }
}

/** Of spans that overlap, the one that knows most at each time. @returns in order, adjacent times of the same spans joined. */
export function oneAtATime(spans: readonly HostSpan[]): MachineTime[] {
  const [only] = spans;
  if (spans.length === 1 && only !== undefined) return only.startMs < only.endMs ? [{ ...only, also: [] }] : [];
  const moments = [...new Set(spans.flatMap(({ startMs, endMs }) => [startMs, endMs]))].sort((a, b) => a - b);
  const coming = spans.toSorted((a, b) => a.startMs - b.startMs);
  const times: { spans: readonly HostSpan[]; startMs: number; endMs: number }[] = [];
  let [next, there]: [number, HostSpan[]] = [0, []];
  // Only those that are there are looked at: a host whose memory is taken and given all the time has many thousand spans.
  for (const [index, startMs] of moments.entries()) {
    const endMs = moments[index + 1];
    if (endMs === undefined) break;
    there = there.filter((one) => one.endMs > startMs);
    for (let one = coming[next]; one !== undefined && one.startMs <= startMs; one = coming[next]) {
      if (one.endMs > startMs) there.push(one);
      next += 1;
    }
    there = there.toSorted(byKnowledge);
    const last = times.at(-1);
    if (last?.endMs === startMs && isSame(last.spans, there)) last.endMs = endMs;
    else if (there.length > 0) times.push({ spans: there, startMs, endMs });
  }
  return times.flatMap(({ spans: [span, ...others], startMs, endMs }) => {
    const also = others.map(({ source, name }) => ({ source, host: name }));
    return span === undefined ? [] : [{ ...span, also, startMs, endMs }];
  });
}

function isSame(one: readonly HostSpan[], other: readonly HostSpan[]): boolean {
  return one.length === other.length && one.every((span, index) => span === other[index]);
}

function byKnowledge(a: HostSpan, b: HostSpan): number {
  return b.memoryBytes - a.memoryBytes || b.threads - a.threads || a.sourceId - b.sourceId || a.startMs - b.startMs;
}

function idOf({ sourceId, nativeId }: HostId): string {
  return JSON.stringify([sourceId, nativeId]);
}

function keyOf(...words: readonly (string | number)[]): string {
  return JSON.stringify(words);
}

function into<K, T>(map: Map<K, T[]>, key: K, one: T): void {
  const known = map.get(key);
  if (known === undefined) map.set(key, [one]);
  else known.push(one);
}
