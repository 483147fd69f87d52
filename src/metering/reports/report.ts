/** Charges added up by what somebody wants to know. Sums are exact; digits are cut when they are shown. Pure. */
import { Exact } from '../exact.ts';
import { matches, type Selector } from '../rate-card/selector.ts';
import { selectable } from '../rating/attribution.ts';
import type { Charge, ChargeCategory } from '../rating/charge.ts';
import { type DayCalendar, dayCalendar } from './local-days.ts';

export const DIMENSIONS = ['project', 'owner', 'source', 'host', 'vm', 'day', 'month', 'item', 'category'] as const;
export type Dimension = (typeof DIMENSIONS)[number];

/** A charge, and whether it corrects a closed month. */
export interface ReportedCharge {
  readonly charge: Charge;
  readonly isCorrection: boolean;
}

export interface ReportRow {
  /** One text per dimension of the report; `-` for what belongs to nobody. */
  readonly names: readonly string[];
  readonly cost: Exact;
  readonly parts: CostParts;
}

export type CostParts = Readonly<Record<ChargeCategory | 'correction', Exact>>;
export const COST_PARTS = ['usage', 'fixed', 'idle', 'overhead', 'correction', 'tax'] as const;

export interface Report {
  readonly by: readonly Dimension[];
  readonly currency: string;
  /** By cost, largest first; by date when the first dimension is one. */
  readonly rows: readonly ReportRow[];
  readonly total: ReportRow;
}

/** @param question - `zone`: whose days are meant, an IANA name. */
export function reportOf(
  charges: readonly ReportedCharge[],
  question: { readonly by: readonly Dimension[]; readonly zone: string; readonly currency: string },
): Report {
  const calendar = question.by.includes('day') ? dayCalendar(question.zone) : undefined;
  const rows = new Map<string, { names: readonly string[]; parts: Record<keyof CostParts, Exact> }>();
  const total = noCosts();
  for (const { charge, isCorrection } of charges) {
    const part = isCorrection ? 'correction' : charge.category;
    total[part] = total[part].plus(charge.cost);
    for (const { date, cost } of daysOf(charge, calendar)) {
      const names = question.by.map((dimension) => nameOf(charge, dimension, date));
      const key = JSON.stringify(names);
      const row = rows.get(key) ?? { names, parts: noCosts() };
      row.parts[part] = row.parts[part].plus(cost);
      rows.set(key, row);
    }
  }
  const isByDate = question.by[0] === 'day' || question.by[0] === 'month';
  const made = [...rows.values()].map(({ names, parts }) => ({ names, parts, cost: wholeOf(parts) }));
  made.sort((a, b) => (isByDate ? 0 : b.cost.compare(a.cost)) || compareNames(a.names, b.names));
  return {
    by: question.by,
    currency: question.currency,
    rows: made,
    total: { names: question.by.map((_, index) => (index === 0 ? 'total' : '')), parts: total, cost: wholeOf(total) },
  };
}

/** Keeps what a selector chooses. A charge that belongs to no VM is asked with what it has. */
export function selected<T extends ReportedCharge>(charges: readonly T[], select: Selector): readonly T[] {
  return charges.filter(({ charge }) => matches(select, selectable(charge.subject)));
}

/** A charge over several local days is divided among them by time, exactly. */
export function daysOf(
  charge: Charge,
  calendar: DayCalendar | undefined,
): readonly { readonly date: string; readonly cost: Exact }[] {
  const { startMs, endMs, cost } = charge;
  if (calendar === undefined || endMs <= startMs) return [{ date: '', cost }];
  const pieces = calendar.pieces(startMs, endMs);
  if (pieces.length === 1) return [{ date: pieces[0]?.date ?? '', cost }];
  return pieces.map((piece) => ({
    date: piece.date,
    cost: cost.times(Exact.of(piece.endMs - piece.startMs, endMs - startMs)),
  }));
}

export function nameOf(charge: Charge, dimension: Dimension, date: string): string {
  const { subject } = charge;
  switch (dimension) {
    case 'day':
      return date;
    case 'month':
      return charge.period;
    case 'item':
      return charge.item;
    case 'category':
      return charge.category;
    case 'vm':
      return subject.vmName ?? '-';
    default:
      return subject[dimension] ?? '-';
  }
}

function noCosts(): Record<keyof CostParts, Exact> {
  const { zero } = Exact;
  return { usage: zero, fixed: zero, idle: zero, overhead: zero, correction: zero, tax: zero };
}

function wholeOf(parts: CostParts): Exact {
  return COST_PARTS.reduce((sum, part) => sum.plus(parts[part]), Exact.zero);
}

function compareNames(a: readonly string[], b: readonly string[]): number {
  for (const [index, name] of a.entries()) {
    const other = b[index] ?? '';
    if (name !== other) return name < other ? -1 : 1;
  }
  return 0;
}
