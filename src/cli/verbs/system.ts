/** The engine as a whole: version, info, events, disk use. */

import { VERSION } from '#daemon';
import type { Options } from '../command-line.ts';
import { filtersOf, jsonLines } from '../engine-client.ts';
import { LISTING_FLAGS, renderListing } from '../listing.ts';
import { humanSize } from '../tables.ts';
import { compileTemplate } from '../template.ts';
import type { Verb } from '../verb.ts';

const FORMAT_FLAGS = [
  { flags: '-f, --format <TEMPLATE>', about: 'json, or a Go template' },
  { flags: '--json', about: 'as JSON' },
];

/** The value in the format that was asked for, or undefined when it is to be told in words. */
function formatted(value: unknown, options: Options): string | undefined {
  const format = options.flag('json') ? 'json' : options.text('format');
  if (format === undefined || format === '') return undefined;
  return format === 'json' ? `${JSON.stringify(value)}\n` : `${compileTemplate(format)(value)}\n`;
}

interface ServerVersion {
  readonly Version: string;
  readonly ApiVersion: string;
  readonly MinAPIVersion: string;
  readonly Arch: string;
  readonly KernelVersion: string;
  readonly Components: readonly { readonly Name: string; readonly Version: string }[];
}

export const version: Verb = {
  shape: { usage: '[OPTIONS]', about: 'Shows the versions of command and daemon.', flags: FORMAT_FLAGS, most: 0 },
  run: async ({ engine, out }, options) => {
    const client = { Version: VERSION, ApiVersion: '1.50', Node: process.versions.node };
    const server = await engine.call<ServerVersion>('GET', '/version');
    const text = formatted({ Client: client, Server: server }, options);
    await out(
      text ??
        [
          `Client: berth ${client.Version} (API ${client.ApiVersion}, Node ${client.Node})`,
          `Server: berth ${server.Version} (API ${server.ApiVersion}, minimum ${server.MinAPIVersion})`,
          ` Host:         linux/${server.Arch}, kernel ${server.KernelVersion}`,
          ...server.Components.slice(1).map(({ Name, Version }) => ` ${`${Name}:`.padEnd(13)} ${Version}`),
          '',
        ].join('\n'),
    );
    return 0;
  },
};

export const info: Verb = {
  shape: { usage: '[OPTIONS]', about: 'Shows the state of the daemon and its host.', flags: FORMAT_FLAGS, most: 0 },
  run: async ({ engine, out, note }, options) => {
    const found = await engine.call<Record<string, unknown>>('GET', '/info');
    const text = formatted(found, options);
    if (text !== undefined) {
      await out(text);
      return 0;
    }
    const at = (name: string): string => String(found[name] ?? '');
    const lines: [string, string][] = [
      [
        'VMs',
        `${at('Containers')} (${at('ContainersRunning')} running, ${at('ContainersPaused')} paused, ${at('ContainersStopped')} stopped)`,
      ],
      ['Images', at('Images')],
      ['Version', at('ServerVersion')],
      ...((found['DriverStatus'] ?? []) as [string, string][]),
      ['Host', `${at('Name')}, ${at('OperatingSystem')}, kernel ${at('KernelVersion')}`],
      ['Processors', at('NCPU')],
      ['Memory', humanSize(Number(found['MemTotal'] ?? 0))],
      ['State folder', at('DockerRootDir')],
    ];
    await out(lines.map(([name, value]) => `${`${name}:`.padEnd(14)} ${value}\n`).join(''));
    for (const warning of (found['Warnings'] ?? []) as string[]) note(warning);
    return 0;
  },
};

interface Happening {
  readonly Type: string;
  readonly Action: string;
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> };
  readonly timeNano: number;
}

export const events: Verb = {
  shape: {
    usage: '[OPTIONS]',
    about: 'Shows what happens, as it happens.',
    flags: [
      { flags: '--since <TIME>', about: 'what happened from then on, too' },
      { flags: '--until <TIME>', about: 'up to then' },
      { flags: '-f, --filter <NAME=VALUE>', about: 'only those for which it holds', many: true },
      { flags: '--format <TEMPLATE>', about: 'json, or a Go template' },
      { flags: '--json', about: 'one JSON object a line' },
    ],
    most: 0,
    examples: ['berth events --filter event=die', 'berth events --since 1h --until 0s --json'],
  },
  run: async ({ engine, out }, options) => {
    const { body } = await engine.stream('GET', '/events', {
      query: { since: options.text('since'), until: options.text('until'), filters: filtersOf(options.list('filter')) },
    });
    for await (const event of jsonLines<Happening>(body))
      await out(formatted(event, options) ?? `${eventLine(event)}\n`);
    return 0;
  },
};

function eventLine({ Type, Action, Actor, timeNano }: Happening): string {
  const time = new Date(timeNano / 1e6).toISOString();
  const attributes = Object.entries(Actor.Attributes)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`);
  return `${time} ${Type} ${Action} ${Actor.ID} (${attributes.join(', ')})`;
}

interface DiskUse {
  readonly LayersSize: number;
  readonly Images: readonly { readonly Size: number; readonly SharedSize: number; readonly Containers: number }[];
  readonly Containers: readonly { readonly State: string; readonly SizeRw?: number }[];
}

export const df: Verb = {
  shape: { usage: '[OPTIONS]', about: 'Shows what takes how much of the disk.', flags: LISTING_FLAGS, most: 0 },
  run: async ({ engine, out }, options) => {
    const use = await engine.call<DiskUse>('GET', '/system/df');
    // What the daemon's df leaves out is asked of the list.
    const vms = await engine.call<{ State: string; SizeRw?: number }[]>('GET', '/containers/json', {
      query: { all: true, size: true },
    });
    const disks = vms.reduce((sum, vm) => sum + (vm.SizeRw ?? 0), 0);
    const free = use.Images.filter((image) => image.Containers === 0).reduce(
      (sum, image) => sum + Math.max(0, image.Size - Math.max(0, image.SharedSize)),
      0,
    );
    const stopped = vms.filter((vm) => vm.State !== 'running' && vm.State !== 'paused');
    const rows = [
      {
        Type: 'Images',
        TotalCount: String(use.Images.length),
        Active: String(use.Images.filter((image) => image.Containers > 0).length),
        Size: humanSize(use.LayersSize),
        Reclaimable: humanSize(free),
      },
      {
        Type: 'VMs',
        TotalCount: String(vms.length),
        Active: String(vms.length - stopped.length),
        Size: humanSize(disks),
        Reclaimable: humanSize(stopped.reduce((sum, vm) => sum + (vm.SizeRw ?? 0), 0)),
      },
    ];
    const columns = [
      ['Type', 'TYPE'],
      ['TotalCount', 'TOTAL'],
      ['Active', 'ACTIVE'],
      ['Size', 'SIZE'],
      ['Reclaimable', 'RECLAIMABLE'],
    ] as const;
    await out(renderListing({ rows, columns }, options));
    return 0;
  },
};
