/** What happened, for `docker events`: the last ones in memory and a live feed. As in dockerd, a restart forgets. */
import { EventEmitter } from 'node:events';
import type { Vm } from '#engine';
import { nowMs } from '#platform';
import { type Filters, labelsMatch } from './filters.ts';

/** dockerd keeps 256 as well. @source moby, daemon/events */
const KEPT = 256;

export interface DockerEvent {
  readonly type: 'container' | 'image' | 'network' | 'volume' | 'daemon';
  readonly action: string;
  readonly id: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly timeMs: number;
}

export const EVENT_FILTERS = [
  'config',
  'container',
  'daemon',
  'event',
  'image',
  'label',
  'network',
  'node',
  'plugin',
  'scope',
  'secret',
  'service',
  'type',
  'volume',
];

export class EventLog {
  readonly #kept: DockerEvent[] = [];
  readonly #live = new EventEmitter<{ event: [DockerEvent] }>();

  constructor() {
    this.#live.setMaxListeners(0);
  }

  add(event: DockerEvent): void {
    this.#kept.push(event);
    if (this.#kept.length > KEPT) this.#kept.shift();
    this.#live.emit('event', event);
  }

  since(ms: number): readonly DockerEvent[] {
    return this.#kept.filter((event) => event.timeMs >= ms);
  }

  subscribe(onEvent: (event: DockerEvent) => void): () => void {
    this.#live.on('event', onEvent);
    return () => this.#live.off('event', onEvent);
  }
}

/** For what the Docker door itself does to a VM; the engine tells of the rest. */
export function containerHappened(
  context: { readonly events: EventLog },
  vm: Vm,
  action: string,
  extra: Readonly<Record<string, string>> = {},
): void {
  const { record } = vm;
  const attributes = { ...record.spec.labels, ...extra, image: record.spec.imageReference, name: record.name };
  context.events.add({ type: 'container', action, id: record.id, attributes, timeMs: nowMs() });
}

export function eventMatches(event: DockerEvent, filters: Filters): boolean {
  const any = (name: string, test: (value: string) => boolean): boolean => filters.get(name)?.some(test) ?? true;
  const named = (type: DockerEvent['type']) => (value: string) =>
    event.type === type && (event.id === value || event.id.startsWith(value) || event.attributes['name'] === value);
  const image = (value: string): boolean =>
    (event.type === 'image' && (event.id === value || sameImage(event.attributes['name'], value))) ||
    (event.type === 'container' && sameImage(event.attributes['image'], value));
  return (
    any('type', (type) => event.type === type) &&
    any('event', (action) => event.action === action || event.action.startsWith(`${action}:`)) &&
    any('container', named('container')) &&
    any('image', image) &&
    any('network', named('network')) &&
    any('volume', named('volume')) &&
    any('daemon', named('daemon')) &&
    any('scope', (scope) => scope === 'local') &&
    ['config', 'node', 'plugin', 'secret', 'service'].every((name) => !filters.has(name)) &&
    labelsMatch(event.attributes, filters.get('label'))
  );
}

/** A name without a tag stands for all of its tags. */
function sameImage(name: string | undefined, wanted: string): boolean {
  return name !== undefined && (name === wanted || name.replace(/:[^:/]*$/, '') === wanted);
}

/** The wire form, with the fields of API 1.24 that old clients still read. */
export function eventView(event: DockerEvent): object {
  const legacy =
    event.type === 'container'
      ? { status: event.action, id: event.id, from: event.attributes['image'] ?? '' }
      : event.type === 'image'
        ? { status: event.action, id: event.id }
        : {};
  return {
    ...legacy,
    Type: event.type,
    Action: event.action,
    Actor: { ID: event.id, Attributes: event.attributes },
    scope: 'local',
    time: Math.floor(event.timeMs / 1000),
    timeNano: Math.round(event.timeMs * 1e6),
  };
}
