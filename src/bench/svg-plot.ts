/**
 * Measures as a drawing: a panel for each, a row for each side, a dot for each value, a tick and a figure at the median.
 * SVG by hand, since it is rectangles and circles. Pure: the same report gives the same bytes.
 */
import { type Axis, axisFor } from './axis.ts';
import type { Measure, Report } from './report.ts';
import { quantity } from './report-text.ts';
import { median } from './statistics.ts';

/** All in pixels of the drawing. */
const WIDTH = 900;
const LEFT = 170;
const RIGHT = 120;
const TITLE_HEIGHT = 40;
const ROW_HEIGHT = 44;
const AXIS_HEIGHT = 52;
const HEAD_HEIGHT = 44;
const DOT_RADIUS = 2.6;
/** Dots lie at most this far above and below the middle of their row. */
const SPREAD = 12;
/** Told apart by those who do not see red and green, too. */
const COLOURS = ['#0b62a4', '#c75200', '#2a7f62', '#7a3e9d', '#555555', '#a8324a'];

export interface Plot {
  readonly title: string;
  readonly subtitle: string;
  readonly measures: readonly Measure[];
}

/** All measures of some reports of one machine. */
export function renderReportsSvg(reports: readonly [Report, ...Report[]]): string {
  const [{ machine, at }] = reports;
  return renderSvg({
    title: `berth bench ${reports.map((report) => report.verb).join(', ')}`,
    subtitle: `${at.slice(0, 10)}, ${machine.cpus} × ${machine.cpuModel}, kernel ${machine.kernel}`,
    measures: reports.flatMap((report) => report.measures),
  });
}

export function renderSvg(plot: Plot): string {
  const drawn = plot.measures.filter((measure) => measure.series.some((one) => one.values.length > 0));
  const sides = [...new Set(drawn.flatMap((measure) => measure.series.map((one) => one.side)))];
  const colourOf = (side: string): string => COLOURS[sides.indexOf(side) % COLOURS.length] ?? '#000000';
  const panels: string[] = [];
  let y = HEAD_HEIGHT;
  for (const measure of drawn) {
    panels.push(`<g transform="translate(0 ${y})">${panel(measure, colourOf)}</g>`);
    y += panelHeight(measure);
  }
  const height = y + 8;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="13" fill="#222222">`,
    `<title>${escaped(plot.title)}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(16, 22, plot.title, 'font-size="16" font-weight="bold"'),
    text(16, 39, plot.subtitle, 'font-size="11" fill="#666666"'),
    ...panels,
    '</svg>',
    '',
  ].join('\n');
}

function panelHeight(measure: Measure): number {
  return TITLE_HEIGHT + measure.series.length * ROW_HEIGHT + AXIS_HEIGHT;
}

/** @param colourOf - a side has the same colour in every panel. */
function panel(measure: Measure, colourOf: (side: string) => string): string {
  const axis = axisFor(measure.series.flatMap((one) => one.values));
  const x = (value: number): number => round(LEFT + axis.positionOf(value) * (WIDTH - LEFT - RIGHT));
  const bottom = TITLE_HEIGHT + measure.series.length * ROW_HEIGHT;
  const rows = measure.series.map((one, index) => {
    const middle = TITLE_HEIGHT + index * ROW_HEIGHT + ROW_HEIGHT / 2;
    const colour = colourOf(one.side);
    const dots = one.values.map(
      (value, at) =>
        `<circle cx="${x(value)}" cy="${round(middle + offsetOf(at))}" r="${DOT_RADIUS}" fill="${colour}" fill-opacity="0.55"/>`,
    );
    const label = text(LEFT - 14, middle + 4, one.side, 'text-anchor="end"');
    if (one.values.length === 0) return label;
    const at = x(median(one.values));
    return [
      label,
      ...dots,
      `<line x1="${at}" x2="${at}" y1="${middle - 17}" y2="${middle + 17}" stroke="#000000" stroke-width="2"/>`,
      text(WIDTH - RIGHT + 14, middle + 4, quantity(median(one.values), measure.unit), 'font-weight="bold"'),
    ].join('\n');
  });
  const title = text(16, 26, measure.title, 'font-size="14" font-weight="bold"');
  return [title, axisLines(axis, { x, bottom, unit: measure.unit }), ...rows].join('\n');
}

function axisLines(
  axis: Axis,
  place: { readonly x: (value: number) => number; readonly bottom: number; readonly unit: string },
): string {
  const { x, bottom, unit } = place;
  const ticks = axis.ticks.map((tick) => {
    const grid = `<line x1="${x(tick)}" x2="${x(tick)}" y1="${TITLE_HEIGHT}" y2="${bottom + 5}" stroke="#dddddd"/>`;
    return `${grid}${text(x(tick), bottom + 19, String(tick), 'text-anchor="middle" font-size="11" fill="#555555"')}`;
  });
  const label = `${unit}${axis.isLogarithmic ? ', logarithmic' : ''}; each dot is one value, the tick is the median`;
  return [
    ...ticks,
    `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${bottom}" y2="${bottom}" stroke="#888888"/>`,
    text((LEFT + WIDTH - RIGHT) / 2, bottom + 37, label, 'text-anchor="middle" font-size="11" fill="#555555"'),
  ].join('\n');
}

/** Spreads dots over the height of a row, so that equal values show; the golden ratio keeps neighbours apart. */
function offsetOf(index: number): number {
  return (((index * 0.618_034 + 0.5) % 1) * 2 - 1) * SPREAD;
}

function text(x: number, y: number, content: string, attributes: string): string {
  return `<text x="${round(x)}" y="${round(y)}" ${attributes}>${escaped(content)}</text>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escaped(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
