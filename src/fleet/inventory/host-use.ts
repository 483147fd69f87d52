/** What hosts could, what their VMs and they themselves used of it, and what was left, out of the database. */
import type { Database } from '#store';
import type { HostGap } from '../consumption/host-counting.ts';
import { monthAt } from '../consumption/months.ts';
import { prunedMonths } from '../consumption/prune-table.ts';
import type { HostHour } from '../consumption/utilization.ts';
import { HostBook } from './host-book.ts';
import { type MachineHour, MachineHours } from './machine-hours.ts';

export interface HostUseListing {
  readonly source: string;
  readonly host: string;
  /** Other sources' names of the same machine: what is told of it is told here, once. */
  readonly also: readonly { readonly source: string; readonly host: string }[];
  readonly start: string;
  readonly end: string;
  /** Nanoseconds of processor; whole numbers as text. */
  readonly cpuNs: ShareText;
  readonly memoryKibMs: ShareText;
  /** Time of which readings tell less than happened. */
  readonly gaps: readonly { readonly kind: HostGap['kind']; readonly start: string; readonly end: string }[];
}

/** capacity + beyond = used + overhead + idle + unknown */
export type ShareText = Readonly<Record<keyof HostHour['cpuNanoseconds'], string>>;

interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

export class HostUseQueries {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /**
   * Hours that the span touches, whole, of machines, each from the first to the last time it was seen, but for
   * months whose consumption was let go.
   *
   * @param span - `host`: of hosts with this name only, whichever source calls them so.
   */
  hours(span: Span & { readonly host?: string | undefined }): HostUseListing[] {
    const pruned = prunedMonths(this.#database);
    const book = HostBook.read(this.#database, 'reading');
    const machineHours = new MachineHours(this.#database, book);
    const listings = book.machines().flatMap((machine) => {
      const hours = machineHours
        .of(machine, span)
        .filter(({ startMs }) => !pruned.has(monthAt(startMs).name))
        .map((hour) => ({ hour, names: namesIn(book, machine, hour) }))
        .filter(({ names }) => span.host === undefined || names.some(({ host }) => host === span.host));
      const gaps = hours.length === 0 ? [] : machineHours.gaps(machine, spanOf(hours.map(({ hour }) => hour)));
      return hours.map(({ hour, names }) => listed(hour, names, gaps));
    });
    return listings.sort((a, b) => compare(a.source, b.source) || compare(a.host, b.host) || compare(a.start, b.start));
  }
}

interface Name {
  readonly source: string;
  readonly host: string;
}

function spanOf(hours: readonly MachineHour[]): Span {
  return { fromMs: hours[0]?.startMs ?? 0, toMs: hours.at(-1)?.endMs ?? 0 };
}

/** Each name once, the one that describes the machine first. */
function namesIn(book: HostBook, machine: number, hour: MachineHour): Name[] {
  const { presence } = hour;
  const others = book.namesOf(machine, hour).filter(({ sourceId }) => sourceId !== presence.sourceId);
  const all = [presence, ...others].map(({ source, name }) => ({ source, host: name }));
  return [...new Map(all.map((name) => [JSON.stringify(name), name])).values()];
}

function listed(hour: MachineHour, [name, ...also]: readonly Name[], gaps: readonly HostGap[]): HostUseListing {
  return {
    source: name?.source ?? '',
    host: name?.host ?? '',
    also,
    start: new Date(hour.startMs).toISOString(),
    end: new Date(hour.endMs).toISOString(),
    cpuNs: textOf(hour.cpuNanoseconds),
    memoryKibMs: textOf(hour.memoryKibMs),
    gaps: gaps
      .filter((gap) => gap.toMs > hour.startMs && gap.fromMs < hour.endMs)
      .map(({ kind, fromMs, toMs }) => ({
        kind,
        start: new Date(fromMs).toISOString(),
        end: new Date(toMs).toISOString(),
      })),
  };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function textOf(share: HostHour['cpuNanoseconds']): ShareText {
  const { capacity, used, overhead, idle, unknown, beyond } = share;
  return {
    capacity: String(capacity),
    used: String(used),
    overhead: String(overhead),
    idle: String(idle),
    unknown: String(unknown),
    beyond: String(beyond),
  };
}
