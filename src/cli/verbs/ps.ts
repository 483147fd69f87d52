import { humanDuration } from '#base';
/** `ps`. What its plain form prints, `fast/` prints too, without Node; a test holds the two together. */
import { nowMs } from '#platform';
import { filtersOf } from '../engine-client.ts';
import { LISTING_FLAGS, type Row, renderListing } from '../listing.ts';
import { ellipsis, humanSize, type PortEntry, portsText } from '../tables.ts';
import type { Verb } from '../verb.ts';

export interface ListedVm {
  readonly Id: string;
  readonly Names: readonly string[];
  readonly Image: string;
  readonly ImageID: string;
  readonly Command: string;
  readonly Created: number;
  readonly Ports: readonly PortEntry[];
  readonly Labels: Readonly<Record<string, string>>;
  readonly State: string;
  readonly Status: string;
  readonly NetworkSettings: { readonly Networks: Readonly<Record<string, unknown>> };
  readonly SizeRw?: number;
  readonly SizeRootFs?: number;
}

export const ps: Verb = {
  shape: {
    usage: '[OPTIONS]',
    about: 'Lists VMs.',
    flags: [
      { flags: '-a, --all', about: 'all, not only running ones' },
      { flags: '-q, --quiet', about: 'ids only' },
      { flags: '-n, --last <NUMBER>', about: 'the newest ones, whatever their state' },
      { flags: '-l, --latest', about: 'the newest one, whatever its state' },
      { flags: '-s, --size', about: 'with the size of their disks' },
      { flags: '--no-trunc', about: 'nothing is cut short' },
      { flags: '-f, --filter <NAME=VALUE>', about: 'only those for which it holds', many: true },
      ...LISTING_FLAGS,
    ],
    most: 0,
    examples: [
      'berth ps -a --filter status=exited',
      'berth ps --format "table {{.ID}}\\t{{.Names}}\\t{{.Status}}"',
      'berth ps --json',
    ],
  },
  run: async ({ engine, out }, options) => {
    const last = options.flag('latest') ? 1 : options.number('last');
    const size = options.flag('size') || /\.Size\b/.test(options.text('format') ?? '');
    const query = { all: options.flag('all'), limit: last, size, filters: filtersOf(options.list('filter')) };
    const vms = await engine.call<ListedVm[]>('GET', '/containers/json', { query });
    const whole = options.flag('no-trunc');
    if (options.flag('quiet') && options.text('format') === undefined && !options.flag('json')) {
      await out(vms.map((vm) => `${whole ? vm.Id : vm.Id.slice(0, 12)}\n`).join(''));
      return 0;
    }
    const now = nowMs() / 1000;
    const columns: [string, string][] = [
      ['ID', 'CONTAINER ID'],
      ['Image', 'IMAGE'],
      ['Command', 'COMMAND'],
      ['RunningFor', 'CREATED'],
      ['Status', 'STATUS'],
      ['Ports', 'PORTS'],
      ['Names', 'NAMES'],
      ...(options.flag('size') ? [['Size', 'SIZE'] as [string, string]] : []),
    ];
    const titles = {
      CreatedAt: 'CREATED AT',
      Labels: 'LABELS',
      State: 'STATE',
      Networks: 'NETWORKS',
      Size: 'SIZE',
      Mounts: 'MOUNTS',
      LocalVolumes: 'LOCAL VOLUMES',
    };
    await out(renderListing({ rows: vms.map((vm) => rowOf(vm, whole, now)), columns, titles }, options));
    return 0;
  },
};

/** One VM as templates see it. Pure. */
export function rowOf(vm: ListedVm, whole: boolean, nowSeconds: number): Row {
  const command = whole ? vm.Command : ellipsis(vm.Command, 20);
  return {
    Command: JSON.stringify(command),
    CreatedAt: new Date(vm.Created * 1000)
      .toISOString()
      .replace('T', ' ')
      .replace(/\.000Z$/, ' +0000 UTC'),
    ID: whole ? vm.Id : vm.Id.slice(0, 12),
    Image: vm.Image === '' ? '<no image>' : vm.Image,
    Labels: Object.entries(vm.Labels)
      .map(([name, value]) => `${name}=${value}`)
      .join(','),
    LocalVolumes: '0',
    Mounts: '',
    Names: vm.Names.map((name) => name.replace(/^\//, '')).join(','),
    Networks: Object.keys(vm.NetworkSettings.Networks).join(','),
    Ports: portsText(vm.Ports),
    RunningFor: `${humanDuration(nowSeconds - vm.Created)} ago`,
    Size: vm.SizeRw === undefined ? '0B' : `${humanSize(vm.SizeRw)} (virtual ${humanSize(vm.SizeRootFs ?? 0)})`,
    State: vm.State,
    Status: vm.Status,
  };
}
