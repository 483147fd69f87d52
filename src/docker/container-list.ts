/** `GET /containers/json`: which VMs, in which order. */
import { BerthError } from '#base';
import type { Engine, VmRecord } from '#engine';
import { stateName } from './container-views.ts';
import { booleanFilter, type Filters, labelsMatch } from './filters.ts';

export const LIST_FILTERS = [
  'ancestor',
  'before',
  'expose',
  'exited',
  'health',
  'id',
  'is-task',
  'isolation',
  'label',
  'name',
  'network',
  'publish',
  'since',
  'status',
  'volume',
];

const STATES = ['created', 'running', 'paused', 'restarting', 'removing', 'exited', 'dead'];

export interface ListQuery {
  readonly all: boolean;
  readonly limit: number | undefined;
  readonly filters: Filters;
  /** Image ids that an `ancestor` filter names. */
  readonly ancestorIds: ReadonlySet<string>;
}

/** Newest first. @throws filter.malformed (invalid), vm.not_found (not_found) for before and since. */
export function chooseRecords(engine: Engine, query: ListQuery): VmRecord[] {
  const { filters } = query;
  const records = engine
    .list()
    .map((vm) => vm.record)
    .sort((a, b) => b.createdAtMs - a.createdAtMs);
  const states = filters.get('status');
  for (const state of states ?? []) {
    if (!STATES.includes(state))
      throw new BerthError('invalid', 'filter.malformed', `invalid filter 'status=${state}'`);
  }
  const before = edge(engine, filters, 'before');
  const since = edge(engine, filters, 'since');
  const exited = filters.get('exited')?.map((code) => {
    if (!/^-?[0-9]+$/.test(code))
      throw new BerthError('invalid', 'filter.malformed', `invalid filter 'exited=${code}'`);
    return Number(code);
  });
  const names = filters.get('name')?.map((pattern) => nameMatcher(pattern));
  const isTask = booleanFilter(filters, 'is-task');
  const showAll =
    query.all ||
    (query.limit ?? 0) > 0 ||
    states !== undefined ||
    exited !== undefined ||
    before !== undefined ||
    since !== undefined;
  const chosen = records.filter((record) => {
    const state = stateName(record.state);
    if (!showAll && state !== 'running' && state !== 'paused') return false;
    if (states !== undefined && !states.includes(state)) return false;
    if (exited !== undefined && !(record.state.name === 'exited' && exited.includes(record.state.exit.exitCode)))
      return false;
    if (before !== undefined && record.createdAtMs >= before.createdAtMs) return false;
    if (since !== undefined && record.createdAtMs <= since.createdAtMs) return false;
    if (!some(filters, 'id', (id) => record.id.startsWith(id))) return false;
    if (names !== undefined && !names.some((matches) => matches(record.name))) return false;
    if (!labelsMatch(record.spec.labels, filters.get('label'))) return false;
    if (filters.has('ancestor') && !query.ancestorIds.has(record.spec.imageId)) return false;
    if (
      !some(
        filters,
        'network',
        (network) =>
          (record.spec.network.mode === 'none' ? 'none' : 'bridge') === network || record.network?.bridge === network,
      )
    )
      return false;
    if (
      !some(filters, 'publish', (port) =>
        (record.network?.ports ?? []).some((bound) => portMatches(port, bound.hostPort, bound.protocol)),
      )
    )
      return false;
    if (!some(filters, 'expose', (port) => exposes(record, port))) return false;
    if (!some(filters, 'health', (health) => health === 'none')) return false;
    const mounts = record.spec.volumes ?? [];
    if (!some(filters, 'volume', (want) => mounts.some(({ volume, path }) => volume === want || path === want)))
      return false;
    return isTask !== true;
  });
  return query.limit !== undefined && query.limit > 0 ? chosen.slice(0, query.limit) : chosen;
}

function some(filters: Filters, name: string, test: (value: string) => boolean): boolean {
  return filters.get(name)?.some(test) ?? true;
}

function edge(engine: Engine, filters: Filters, name: string): VmRecord | undefined {
  const [reference] = filters.get(name) ?? [];
  return reference === undefined ? undefined : engine.find(reference).record;
}

/** Docker takes a name filter for a regular expression, with or without the leading slash. */
function nameMatcher(pattern: string): (name: string) => boolean {
  let expression: RegExp;
  try {
    expression = new RegExp(pattern.length > 256 ? escapeExpression(pattern) : pattern);
  } catch {
    return (name) => name === pattern;
  }
  return (name) => expression.test(name) || expression.test(`/${name}`);
}

function escapeExpression(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

/** `80`, `80/tcp`, `8000-8080`. */
function portMatches(wanted: string, port: number, protocol: string): boolean {
  const [range, wantedProtocol] = wanted.split('/');
  const [low, high] = (range ?? '').split('-').map(Number);
  if (wantedProtocol !== undefined && wantedProtocol !== protocol) return false;
  return port >= (low ?? 0) && port <= (high ?? low ?? 0);
}

function exposes(record: VmRecord, wanted: string): boolean {
  const own = (record.spec.docker as { ExposedPorts?: Record<string, unknown> | null }).ExposedPorts ?? {};
  const bound = record.spec.network.ports.map((port) => `${port.guestPort}/${port.protocol}`);
  return [...Object.keys(own), ...bound].some((key) => {
    const [port, protocol = 'tcp'] = key.split('/');
    return portMatches(wanted, Number(port), protocol);
  });
}
