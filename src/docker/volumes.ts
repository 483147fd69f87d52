/** Volumes over Docker's API. */
import * as v from 'valibot';
import { BerthError } from '#base';
import type { Vm } from '#engine';
import { nowMs } from '#platform';
import type { Volume } from '#storage';
import type { Call } from './call.ts';
import type { DockerContext } from './context.ts';
import { booleanFilter, type Filters, labelsMatch, parseFilters } from './filters.ts';
import type { Route } from './router.ts';
import { driverOptions } from './volume-requests.ts';

/** What dockerd puts on volumes nobody named. */
const ANONYMOUS = 'com.docker.volume.anonymous';
/** From here on `prune` leaves named volumes alone unless told otherwise. @source Docker API history, 1.42 */
const CAREFUL_PRUNE = [1, 42] as const;

const textMap = v.optional(v.nullable(v.record(v.string(), v.string())));
const text = v.optional(v.nullable(v.string()));
const CreateVolumeSchema = v.looseObject({ Name: text, Driver: text, DriverOpts: textMap, Labels: textMap });

export function volumeRoutes(context: DockerContext): Route[] {
  const { volumes, engine } = context;

  const list = async (call: Call): Promise<void> => {
    const filters = parseFilters(call.query.get('filters'), ['dangling', 'driver', 'label', 'name']);
    const chosen = volumes.list().filter((volume) => matches(volume, filters, engine.usersOf(volume.name)));
    call.reply(200, { Volumes: chosen.map((volume) => volumeView(context, volume)), Warnings: null });
  };

  const create = async (call: Call): Promise<void> => {
    const body = await call.json(CreateVolumeSchema);
    const name = body.Name || undefined;
    const { volume, isNew } = await volumes.create({
      name,
      labels: { ...body.Labels, ...(name === undefined ? { [ANONYMOUS]: '' } : {}) },
      ...driverOptions(body.Driver, body.DriverOpts),
    });
    if (isNew) tellVolume(context, 'create', volume.name);
    call.reply(201, volumeView(context, volume));
  };

  const remove = async (call: Call): Promise<void> => {
    const name = call.parameter('name');
    if (call.flag('force') && !volumes.has(name)) {
      call.reply(204);
      return;
    }
    volumes.get(name);
    const users = engine.usersOf(name);
    if (users.length > 0) {
      const ids = users.map((vm) => vm.record.id).join(', ');
      throw new BerthError('conflict', 'volume.in_use', `remove ${name}: volume is in use - [${ids}]`, {
        hint: `remove ${users.map((vm) => vm.record.name).join(', ')} first`,
      });
    }
    await removeVolume(context, name);
    call.reply(204);
  };

  const prune = async (call: Call): Promise<void> => {
    const filters = parseFilters(call.query.get('filters'), ['all', 'label', 'label!']);
    const isCareful = !isBefore(call.version, CAREFUL_PRUNE) && booleanFilter(filters, 'all') !== true;
    const removed: string[] = [];
    let reclaimed = 0;
    for (const { name, labels } of volumes.list()) {
      if (isCareful && !Object.hasOwn(labels, ANONYMOUS)) continue;
      if (!labelsMatch(labels, filters.get('label'))) continue;
      if ((filters.get('label!') ?? []).some((unwanted) => labelsMatch(labels, [unwanted]))) continue;
      // Somebody else may have removed it meanwhile.
      if (!volumes.has(name)) continue;
      const bytes = await volumes.usedBytes(name);
      // Asked last: nothing may come between this and the removal.
      if (engine.usersOf(name).length > 0 || !volumes.has(name)) continue;
      await removeVolume(context, name);
      reclaimed += bytes;
      removed.push(name);
    }
    call.reply(200, { VolumesDeleted: removed, SpaceReclaimed: reclaimed });
  };

  return [
    { method: 'GET', path: '/volumes', summary: 'list volumes', handle: list },
    { method: 'POST', path: '/volumes/create', summary: 'make a volume', handle: create },
    { method: 'POST', path: '/volumes/prune', summary: 'remove unused volumes', handle: prune },
    {
      method: 'GET',
      path: '/volumes/{name}',
      summary: 'inspect a volume',
      handle: (call) => call.reply(200, volumeView(context, volumes.get(call.parameter('name')))),
    },
    { method: 'DELETE', path: '/volumes/{name}', summary: 'remove a volume', handle: remove },
  ];
}

export async function removeVolume(context: DockerContext, name: string): Promise<void> {
  await context.volumes.remove(name);
  tellVolume(context, 'destroy', name);
}

export function tellVolume({ events }: DockerContext, action: string, name: string): void {
  events.add({ type: 'volume', action, id: name, attributes: { driver: 'local' }, timeMs: nowMs() });
}

/** `Mountpoint` is the file that is its disk: the host mounts no guest's file system. */
function volumeView({ volumes }: DockerContext, volume: Volume): Record<string, unknown> {
  return {
    CreatedAt: new Date(volume.createdAtMs).toISOString(),
    Driver: 'local',
    Labels: volume.labels,
    Mountpoint: volumes.diskOf(volume.name),
    Name: volume.name,
    Options: Object.keys(volume.options).length > 0 ? volume.options : null,
    Scope: 'local',
  };
}

/** With what `system df` asks for beside. */
export async function volumesInUse(context: DockerContext): Promise<object[]> {
  const { volumes, engine } = context;
  return await Promise.all(
    volumes.list().map(async (volume) => ({
      ...volumeView(context, volume),
      UsageData: { Size: await volumes.usedBytes(volume.name), RefCount: engine.usersOf(volume.name).length },
    })),
  );
}

function matches(volume: Volume, filters: Filters, users: readonly Vm[]): boolean {
  const dangling = booleanFilter(filters, 'dangling');
  if (dangling !== undefined && (users.length === 0) !== dangling) return false;
  const names = filters.get('name');
  if (names !== undefined && !names.some((name) => volume.name.includes(name))) return false;
  const drivers = filters.get('driver');
  if (drivers !== undefined && !drivers.includes('local')) return false;
  return labelsMatch(volume.labels, filters.get('label'));
}

function isBefore(
  [major, minor]: readonly [number, number],
  [thatMajor, thatMinor]: readonly [number, number],
): boolean {
  return major < thatMajor || (major === thatMajor && minor < thatMinor);
}
