/** The drawings of the HTML report. Pure. */
import type { Exact } from '../../exact.ts';
import { timeText } from '../../usage/time-cuts.ts';
import { COLOURS, drawing, escaped, label, OTHERS, rectangle, shortened } from './svg.ts';

/** All in pixels of the drawing. */
const WIDTH = 920;
const LEFT = 150;
const RIGHT = 20;
const ROW = 18;

export interface StackedDay {
  readonly date: string;
  /** One for each of the names, in their order; none negative. */
  readonly costs: readonly Exact[];
}

/** A column per day, a colour per name. */
export function costByDay(days: readonly StackedDay[], names: readonly string[], currency: string): string {
  const [top, height] = [10, 200];
  const totals = days.map((day) => day.costs.reduce((sum, cost) => sum + cost.toApproximateNumber(), 0));
  const most = Math.max(...totals, Number.MIN_VALUE);
  const slot = (WIDTH - LEFT - RIGHT) / Math.max(days.length, 1);
  const parts: string[] = [];
  for (const [index, day] of days.entries()) {
    let y = top + height;
    for (const [place, cost] of day.costs.entries()) {
      const tall = (cost.toApproximateNumber() / most) * height;
      if (tall <= 0) continue;
      y -= tall;
      const box = { x: LEFT + index * slot + slot * 0.1, y, width: slot * 0.8, height: tall };
      const title = `${day.date}, ${names[place] ?? ''}: ${cost.toFixed(2)} ${currency}`;
      parts.push(rectangle(box, `class="bar" fill="${colourOf(place, names.length)}"`, title));
    }
    if (index % Math.ceil(days.length / 16) === 0)
      parts.push(label(LEFT + (index + 0.5) * slot, top + height + 14, day.date.slice(5), 'text-anchor="middle"'));
  }
  for (const share of [0, 0.5, 1]) {
    const y = top + height * (1 - share);
    parts.push(`<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}" class="rule"/>`);
    parts.push(label(LEFT - 6, y + 4, (most * share).toFixed(2), 'text-anchor="end"'));
  }
  return drawing('cost-by-day', { width: WIDTH, height: top + height + 24 }, parts.join(''));
}

/** A row per name. */
export function costBars(rows: readonly { readonly name: string; readonly cost: Exact }[], currency: string): string {
  const most = Math.max(...rows.map((row) => row.cost.toApproximateNumber()), Number.MIN_VALUE);
  const parts = rows.flatMap(({ name, cost }, index) => {
    const [y, amount] = [index * ROW, cost.toApproximateNumber()];
    const width = Math.max(0, (amount / most) * (WIDTH - LEFT - RIGHT - 110));
    return [
      label(LEFT - 6, y + 13, shortened(name, 22), 'text-anchor="end"'),
      rectangle(
        { x: LEFT, y: y + 3, width, height: ROW - 6 },
        `class="bar" fill="${colourOf(index, rows.length)}"`,
        name,
      ),
      label(LEFT + width + 6, y + 13, `${cost.toFixed(2)} ${currency}`),
    ];
  });
  return drawing('cost-by-project', { width: WIDTH, height: Math.max(rows.length * ROW + 4, ROW) }, parts.join(''));
}

export interface HeatRow {
  readonly name: string;
  /** From 0 to 1 and beyond when more was given out than there is; undefined where nothing is known. */
  readonly shares: readonly (number | undefined)[];
}

/** A row per host, a column per day; the darker, the fuller. */
export function utilisation(rows: readonly HeatRow[], dates: readonly string[]): string {
  const slot = (WIDTH - LEFT - RIGHT) / Math.max(dates.length, 1);
  const parts = rows.flatMap(({ name, shares }, index) => [
    label(LEFT - 6, index * ROW + 13, shortened(name, 22), 'text-anchor="end"'),
    ...shares.map((share, day) => {
      const box = { x: LEFT + day * slot + 0.5, y: index * ROW + 1, width: slot - 1, height: ROW - 2 };
      const text = share === undefined ? 'nothing known' : `${(share * 100).toFixed(0)} % of its vCPUs given out`;
      const colour = share === undefined ? 'class="cell unknown"' : `class="cell" fill="${heat(share)}"`;
      return rectangle(box, colour, `${name}, ${dates[day] ?? ''}: ${text}`);
    }),
  ]);
  for (const [day, date] of dates.entries())
    if (day % Math.ceil(dates.length / 16) === 0)
      parts.push(label(LEFT + (day + 0.5) * slot, rows.length * ROW + 14, date.slice(5), 'text-anchor="middle"'));
  return drawing('utilisation', { width: WIDTH, height: rows.length * ROW + 20 }, parts.join(''));
}

export interface PlacedSpan {
  readonly place: string;
  readonly isRunning: boolean;
  readonly startMs: number;
  readonly endMs: number;
}

/** A row per VM, a colour per host, paler where it did not run. */
export function placement(
  rows: readonly { readonly name: string; readonly spans: readonly PlacedSpan[] }[],
  places: readonly string[],
  month: { readonly startMs: number; readonly endMs: number },
): string {
  const scale = (WIDTH - LEFT - RIGHT) / (month.endMs - month.startMs);
  const parts = rows.flatMap(({ name, spans }, index) => [
    label(LEFT - 6, index * ROW + 13, shortened(name, 22), 'text-anchor="end"'),
    ...spans.map((span) => {
      const box = {
        x: LEFT + (span.startMs - month.startMs) * scale,
        y: index * ROW + 3,
        width: Math.max(0.5, (span.endMs - span.startMs) * scale),
        height: ROW - 6,
      };
      const state = span.isRunning ? '' : ' (not running)';
      const colour = colourOf(places.indexOf(span.place), places.length);
      const title = `${name} on ${span.place}${state}, ${timeText(span.startMs)} – ${timeText(span.endMs)}`;
      return rectangle(box, `class="span" fill="${colour}" fill-opacity="${span.isRunning ? 1 : 0.35}"`, title);
    }),
  ]);
  return drawing('placement', { width: WIDTH, height: Math.max(rows.length * ROW + 4, ROW) }, parts.join(''));
}

/** Which colour means what. */
export function legend(names: readonly string[]): string {
  const square = (index: number): string =>
    rectangle({ x: 0, y: 0, width: 10, height: 10 }, `fill="${colourOf(index, names.length)}"`);
  return names
    .map(
      (name, index) => `<span class="key"><svg width="10" height="10">${square(index)}</svg> ${escaped(name)}</span>`,
    )
    .join(' ');
}

function colourOf(index: number, count: number): string {
  const place = count > OTHERS && index >= OTHERS ? OTHERS : index % COLOURS.length;
  return COLOURS[place] ?? '#777777';
}

/** White, through blue, to dark; red when more was given out than there is. */
function heat(share: number): string {
  if (share > 1) return '#b3261e';
  const mix = (from: number, to: number): string =>
    Math.round(from + (to - from) * share)
      .toString(16)
      .padStart(2, '0');
  return `#${mix(0xe8, 0x08)}${mix(0xf1, 0x30)}${mix(0xfa, 0x6b)}`;
}
