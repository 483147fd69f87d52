/** Every call of berth's own API. */
import * as v from 'valibot';
import { parseCredentials, vmNumber } from '#fleet';
import { nowMs } from '#platform';
import { costRoutes } from './cost-routes.ts';
import { openApiDocument } from './openapi.ts';
import {
  AddSourceSchema,
  AtQuerySchema,
  filtersOf,
  HoursQuerySchema,
  ListQuerySchema,
  PaceSchema,
  PowerSchema,
  SearchQuerySchema,
  SpanQuerySchema,
  TopQuerySchema,
} from './queries.ts';
import { type ApiRoute, route } from './route.ts';
import {
  ChangeSchema,
  CheckSchema,
  CountSchema,
  FiguresSchema,
  HostSchema,
  HostUseSchema,
  IntervalSchema,
  pageOf,
  SightingSchema,
  SourceSchema,
  UsagePageSchema,
  VmSchema,
} from './schemas.ts';

const DAY_MS = 86_400_000;

const sources: readonly ApiRoute[] = [
  route({
    method: 'GET',
    path: '/berth/v1/sources',
    name: 'listSources',
    summary: 'sources, and whether they answer',
    answer: v.array(SourceSchema),
    handle: ({ fleet }) => fleet.sources(),
  }),
  route({
    method: 'POST',
    path: '/berth/v1/sources',
    name: 'addSource',
    summary: 'add a source and begin to look',
    body: AddSourceSchema,
    answer: SourceSchema,
    status: 201,
    handle: ({ fleet }, { body }) => {
      const credentials = body.credentials === undefined ? undefined : parseCredentials(body.credentials);
      return fleet.addSource({ ...body, credentials });
    },
  }),
  route({
    method: 'POST',
    path: '/berth/v1/sources/{name}/test',
    name: 'testSource',
    summary: 'what works there, and what is refused and why',
    answer: v.array(CheckSchema),
    handle: ({ fleet }, { parameters }) => fleet.testSource(parameters['name'] ?? ''),
  }),
  route({
    method: 'POST',
    path: '/berth/v1/sources/{name}/refresh',
    name: 'refreshSource',
    summary: 'look at a source now',
    handle: ({ fleet }, { parameters }) => fleet.refresh(parameters['name'] ?? ''),
  }),
  route({
    method: 'POST',
    path: '/berth/v1/sources/{name}/pace',
    name: 'paceSource',
    summary: 'how often a source is looked at and its counters are read',
    body: PaceSchema,
    answer: SourceSchema,
    handle: ({ fleet }, { parameters, body }) => fleet.setPace(parameters['name'] ?? '', body),
  }),
  route({
    method: 'DELETE',
    path: '/berth/v1/sources/{name}',
    name: 'removeSource',
    summary: 'forget a source; the history of its VMs stays',
    handle: ({ fleet }, { parameters }) => fleet.removeSource(parameters['name'] ?? ''),
  }),
];

const present: readonly ApiRoute[] = [
  route({
    method: 'GET',
    path: '/berth/v1/fleet/vms',
    name: 'listVms',
    summary: 'VMs of all sources, in pages',
    query: ListQuerySchema,
    answer: pageOf(VmSchema),
    handle: ({ fleet }, { query }) =>
      fleet.queries.list({
        filters: filtersOf(query.filter),
        sort: query.sort,
        isDescending: query.descending,
        limit: query.limit,
        after: query.after,
        withGone: query.all,
      }),
  }),
  route({
    method: 'GET',
    path: '/berth/v1/fleet/search',
    name: 'searchVms',
    summary: 'VMs by part of a name, id, address, tag, host, guest or network',
    query: SearchQuerySchema,
    answer: pageOf(VmSchema),
    handle: ({ fleet }, { query }) =>
      fleet.queries.search(query.q, { limit: query.limit, after: query.after, withGone: query.all }),
  }),
  route({
    method: 'GET',
    path: '/berth/v1/fleet/vms/{vm}',
    name: 'showVm',
    summary: 'everything about one VM, and every source that shows it',
    answer: v.object({ ...VmSchema.entries, sightings: v.array(SightingSchema) }),
    handle: ({ fleet }, { parameters }) => {
      const vm = fleet.queries.find(parameters['vm'] ?? '');
      return { ...vm, sightings: fleet.queries.sightings(vmNumber(vm.id)) };
    },
  }),
  route({
    method: 'POST',
    path: '/berth/v1/fleet/vms/{vm}/power',
    name: 'actOnVm',
    summary: 'start, stop, shutdown, reboot, pause, resume or snapshot a VM whose source permits it',
    body: PowerSchema,
    handle: ({ fleet }, { parameters, body }) => fleet.act(parameters['vm'] ?? '', body.verb),
  }),
  route({
    method: 'GET',
    path: '/berth/v1/fleet/hosts',
    name: 'listHosts',
    summary: 'hosts of all sources with their number of VMs',
    answer: v.array(HostSchema),
    handle: ({ fleet }) => fleet.queries.hosts(),
  }),
  route({
    method: 'GET',
    path: '/berth/v1/fleet/counts',
    name: 'countVms',
    summary: 'how many VMs there are of each source and power state',
    answer: v.array(CountSchema),
    handle: ({ fleet }) => fleet.queries.counts(),
  }),
  route({
    method: 'GET',
    path: '/berth/v1/fleet/top',
    name: 'topVms',
    summary: 'what running VMs take, measured over an interval',
    query: TopQuerySchema,
    answer: v.array(FiguresSchema),
    handle: ({ fleet }, { query }) => fleet.live(query.intervalMs),
  }),
];

const past: readonly ApiRoute[] = [
  route({
    method: 'GET',
    path: '/berth/v1/fleet/vms/{vm}/history',
    name: 'vmHistory',
    summary: "a VM's intervals, oldest first",
    query: SpanQuerySchema,
    answer: pageOf(IntervalSchema),
    handle: ({ fleet }, { parameters, query }) => {
      const vm = fleet.queries.find(parameters['vm'] ?? '');
      return fleet.past.ofVm(vmNumber(vm.id), { ...query, fromMs: query.from, toMs: query.to });
    },
  }),
  route({
    method: 'GET',
    path: '/berth/v1/fleet/at',
    name: 'fleetAt',
    summary: 'the whole estate as it stood at a time',
    query: AtQuerySchema,
    answer: pageOf(IntervalSchema),
    handle: ({ fleet }, { query }) => fleet.past.at(query.time, query),
  }),
  route({
    method: 'GET',
    path: '/berth/v1/fleet/moves',
    name: 'fleetMoves',
    summary: 'VMs that changed their host',
    query: SpanQuerySchema,
    answer: pageOf(IntervalSchema),
    handle: ({ fleet }, { query }) => fleet.past.moves({ ...query, fromMs: query.from, toMs: query.to }),
  }),
  route({
    method: 'GET',
    path: '/berth/v1/fleet/drift',
    name: 'fleetDrift',
    summary: 'what changed without berth',
    query: SpanQuerySchema,
    answer: pageOf(ChangeSchema),
    handle: ({ fleet }, { query }) => fleet.past.drift({ ...query, fromMs: query.from, toMs: query.to }),
  }),
];

const accounting: readonly ApiRoute[] = [
  route({
    method: 'GET',
    path: '/berth/v1/fleet/usage',
    name: 'fleetUsage',
    summary: 'who had what, when: lines of a usage file, as far as their sources have confirmed it',
    query: SpanQuerySchema,
    answer: UsagePageSchema,
    handle: ({ fleet }, { query }) => {
      const span = { fromMs: query.from ?? 0, toMs: query.to ?? Number.MAX_SAFE_INTEGER };
      return { ...fleet.usage.page({ ...query, ...span }), pruned: fleet.usage.prunedMonths(span) };
    },
  }),
];

const hostUse: readonly ApiRoute[] = [
  route({
    method: 'GET',
    path: '/berth/v1/fleet/utilization',
    name: 'fleetUtilization',
    summary:
      'what hosts could, what their VMs and they themselves used, and what was idle, hour by hour; a day when no times are given',
    query: HoursQuerySchema,
    answer: v.array(HostUseSchema),
    handle: ({ fleet }, { query }) => {
      const toMs = query.to ?? nowMs();
      return fleet.hostUse.hours({ fromMs: query.from ?? toMs - DAY_MS, toMs, host: query.host });
    },
  }),
];

export const apiRoutes: readonly ApiRoute[] = [
  ...sources,
  ...present,
  ...past,
  ...accounting,
  ...hostUse,
  ...costRoutes,
  route({
    method: 'GET',
    path: '/berth/v1/openapi.json',
    name: 'openApi',
    summary: 'this document',
    answer: v.looseObject({ openapi: v.string() }),
    handle: ({ version }) => openApiDocument(apiRoutes, version),
  }),
];
