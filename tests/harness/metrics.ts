/** `GET /metrics` read as strictly as Prometheus does, and its figures by name. */
import type { TestDaemon } from './daemon.ts';

export interface Series {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly series: readonly Series[];
}

const SERIES = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (NaN|[+-]Inf|[-+]?[0-9.]+(?:e[-+]?[0-9]+)?)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/y;

/** Throws at the first line that Prometheus or promtool would refuse. */
export function parseMetrics(text: string): Family[] {
  if (!text.endsWith('\n')) throw new Error('the last line does not end');
  const families: (Family & { series: Series[] })[] = [];
  let help: [string, string] | undefined;
  for (const line of text.slice(0, -1).split('\n')) {
    const comment = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/.exec(line);
    if (comment?.[1] === 'HELP') {
      help = [comment[2] ?? '', comment[3] ?? ''];
      continue;
    }
    if (comment?.[1] === 'TYPE') {
      const [, , name = '', type = ''] = comment;
      if (help?.[0] !== name) throw new Error(`${name} has no help before its type`);
      if (families.some((family) => family.name === name)) throw new Error(`${name} comes twice`);
      if (!['counter', 'gauge', 'histogram', 'summary'].includes(type)) throw new Error(`${name} is a ${type}`);
      families.push({ name, help: help[1], type, series: [] });
      continue;
    }
    const family = families.at(-1);
    const one = seriesOf(line);
    if (family === undefined || !belongs(one.name, family)) throw new Error(`stands in the wrong place: ${line}`);
    const isKnown = family.series.some((other) => keyOf(other) === keyOf(one));
    if (isKnown) throw new Error(`comes twice: ${line}`);
    family.series.push(one);
  }
  for (const family of families) checkFamily(family);
  return families;
}

function seriesOf(line: string): Series {
  const [, name, labelText = '', valueText] = SERIES.exec(line) ?? [];
  if (name === undefined || valueText === undefined) throw new Error(`not a sample: ${line}`);
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < labelText.length) {
    const [, label, value] = LABEL.exec(labelText) ?? [];
    if (label === undefined || value === undefined || label in labels) throw new Error(`bad labels: ${line}`);
    labels[label] = value;
  }
  return { name, labels, value: Number(valueText.replace('Inf', 'Infinity')) };
}

function keyOf({ name, labels }: Series): string {
  return JSON.stringify([name, Object.entries(labels).sort()]);
}

function belongs(name: string, family: Family): boolean {
  if (family.type !== 'histogram') return name === family.name;
  return ['_bucket', '_sum', '_count'].some((suffix) => name === family.name + suffix);
}

function checkFamily({ name, type, series }: Family): void {
  if (type === 'counter' && !name.endsWith('_total')) throw new Error(`the counter ${name} does not end with _total`);
  if (type === 'counter' && series.some(({ value }) => !(value >= 0))) throw new Error(`${name} is below 0`);
  if (type !== 'histogram') return;
  const counts = series.filter((one) => one.name === `${name}_count`);
  for (const { labels, value } of counts) {
    const buckets = series.filter(
      (one) => one.name === `${name}_bucket` && Object.entries(labels).every(([key, text]) => one.labels[key] === text),
    );
    const isRising = buckets.every((bucket, index) => bucket.value >= (buckets[index - 1]?.value ?? 0));
    const last = buckets.at(-1);
    if (!isRising || last?.labels['le'] !== '+Inf' || last.value !== value) throw new Error(`${name} does not add up`);
  }
}

export type Figures = (name: string, labels?: Readonly<Record<string, string>>) => number;

/** The figure with all these labels; throws where there is none. */
export async function figuresOf(daemon: TestDaemon): Promise<Figures> {
  const { body } = await daemon.call('GET', '/metrics');
  const families = parseMetrics(String(body));
  return (name, labels = {}) => {
    const found = families
      .flatMap(({ series }) => series)
      .find((one) => one.name === name && Object.entries(labels).every(([key, value]) => one.labels[key] === value));
    if (found === undefined) throw new Error(`no figure ${name} ${JSON.stringify(labels)}`);
    return found.value;
  };
}

/** What became of templates since the daemon started. */
export async function templateFigures(
  daemon: TestDaemon,
): Promise<{ made: number; adopted: number; discarded: number; failed: number }> {
  const figures = await figuresOf(daemon);
  const change = (name: string): number => figures('berth_template_changes_total', { change: name });
  return { made: change('made'), adopted: change('adopted'), discarded: change('discarded'), failed: change('failed') };
}
