/** What hosts themselves needed as usage facts, machine by machine and hour by hour: only of hours in which they were read. */
import * as v from 'valibot';
import { BerthError } from '#base';
import type { Database } from '#store';
import { hourOf } from '../consumption/counting.ts';
import type { HostBook } from './host-book.ts';
import { MachineHours } from './machine-hours.ts';

export interface OverheadFact {
  readonly type: 'overhead';
  readonly source: string;
  readonly host: string;
  readonly machine: string;
  /** Whole numbers as text: they may be beyond 2^53. */
  readonly cpuNs: string;
  readonly memoryByteMs: string;
  readonly start: string;
  readonly end: string;
}

interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

const PlaceSchema = v.tuple([v.number(), v.number()]);

/** What one machine is called in facts. */
export function machineName(machine: number): string {
  return `m${machine}`;
}

export class OverheadFacts {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Whether any host was read in the span. */
  has({ fromMs, toMs }: Span): boolean {
    return (
      this.#database.get(
        'SELECT 1 FROM host_consumed WHERE hour_ms >= ? AND hour_ms < ? LIMIT 1',
        hourOf(fromMs),
        toMs,
      ) !== undefined
    );
  }

  /**
   * @param book - as far as sources confirmed it by a look: the same ends as the hosts' own facts have.
   * @param after - what `next` said; undefined for the first page.
   * @throws fleet.cursor (invalid)
   */
  page(
    { book, limit, ...span }: Span & { readonly book: HostBook; readonly limit: number },
    after: string | undefined,
  ): { readonly items: readonly OverheadFact[]; readonly next: string | undefined } {
    const [afterMachine, afterHourMs] = after === undefined ? [0, Number.NEGATIVE_INFINITY] : placeOf(after);
    const hours = new MachineHours(this.#database, book);
    const items: OverheadFact[] = [];
    let last: readonly [number, number] | undefined;
    for (const machine of book.machines().sort((a, b) => a - b)) {
      if (machine < afterMachine) continue;
      for (const hour of hours.of(machine, span)) {
        if (!hour.isRead || hour.hourMs >= span.toMs) continue;
        if (machine === afterMachine && hour.hourMs <= afterHourMs) continue;
        if (items.length === limit) return { items, next: JSON.stringify(last) };
        last = [machine, hour.hourMs];
        items.push({
          type: 'overhead',
          source: hour.presence.source,
          host: hour.presence.name,
          machine: machineName(machine),
          cpuNs: String(hour.cpuNanoseconds.overhead),
          memoryByteMs: String(hour.memoryKibMs.overhead * 1024n),
          start: new Date(hour.startMs).toISOString(),
          end: new Date(hour.endMs).toISOString(),
        });
      }
    }
    return { items, next: undefined };
  }
}

function placeOf(text: string): [number, number] {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), PlaceSchema), text);
  if (parsed.success) return parsed.output;
  throw new BerthError('invalid', 'fleet.cursor', 'that is no place in the usage facts', {
    hint: 'give what "next" said, to the same question',
  });
}
