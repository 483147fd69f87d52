/** `stats`: what VMs take of this machine, once or for as long as one looks. */
import { isTerminal, sleep } from '#platform';
import type { EngineClient } from '../engine-client.ts';
import { LISTING_FLAGS, type Row, renderListing } from '../listing.ts';
import { humanSize } from '../tables.ts';
import type { Verb } from '../verb.ts';
import type { ListedVm } from './ps.ts';

const INTERVAL_MS = 1_000;
/** Cursor to the top, everything below it away. */
const CLEAR = '\u001b[H\u001b[J';

export interface Sample {
  readonly id: string;
  readonly name: string;
  readonly cpu_stats: CpuSample;
  readonly precpu_stats: CpuSample;
  readonly pids_stats: { readonly current?: number };
  readonly memory_stats: {
    readonly usage?: number;
    readonly limit?: number;
    readonly stats?: Readonly<Record<string, number>>;
  };
  readonly networks?: Readonly<Record<string, { readonly rx_bytes: number; readonly tx_bytes: number }>>;
  readonly blkio_stats: {
    readonly io_service_bytes_recursive: readonly { readonly op: string; readonly value: number }[] | null;
  };
}

interface CpuSample {
  readonly cpu_usage: { readonly total_usage: number };
  readonly system_cpu_usage?: number;
  readonly online_cpus?: number;
}

export const stats: Verb = {
  shape: {
    usage: '[OPTIONS] [VM...]',
    about: 'Shows what VMs take of this machine; all that run, when none is named.',
    flags: [
      { flags: '-a, --all', about: 'also those that do not run' },
      { flags: '--no-stream', about: 'once' },
      { flags: '--no-trunc', about: 'nothing is cut short' },
      ...LISTING_FLAGS,
    ],
    examples: ['berth stats', 'berth stats --no-stream --format "{{.Name}} {{.HostUnique}}" web'],
  },
  run: async ({ engine, out }, options, names) => {
    const whole = options.flag('no-trunc');
    const isLive = !options.flag('no-stream');
    const clear = isLive && isTerminal('stdout') ? CLEAR : '';
    for (;;) {
      const wanted = names.length > 0 ? names : await listed(engine, options.flag('all'));
      const samples = await Promise.all(wanted.map((name) => sampleOf(engine, name)));
      const rows = samples.map((sample) => rowOf(sample, whole));
      await out(clear + renderListing({ rows, columns: COLUMNS, titles: TITLES }, options));
      if (!isLive) return 0;
      await sleep(INTERVAL_MS);
    }
  },
};

const COLUMNS = [
  ['ID', 'CONTAINER ID'],
  ['Name', 'NAME'],
  ['CPUPerc', 'CPU %'],
  ['MemUsage', 'MEM USAGE / LIMIT'],
  ['HostUnique', 'HOST'],
  ['TemplateShared', 'SHARED'],
  ['NetIO', 'NET I/O'],
  ['BlockIO', 'BLOCK I/O'],
  ['PIDs', 'PIDS'],
] as const;
const TITLES = { MemPerc: 'MEM %', HostResident: 'RESIDENT', Container: 'CONTAINER' };

async function listed(engine: EngineClient, all: boolean): Promise<string[]> {
  return (await engine.call<ListedVm[]>('GET', '/containers/json', { query: { all } })).map(({ Id }) => Id);
}

function sampleOf(engine: EngineClient, name: string): Promise<Sample> {
  return engine.call<Sample>('GET', `/containers/${encodeURIComponent(name)}/stats`, { query: { stream: '0' } });
}

/** One VM as templates see it. Pure. */
export function rowOf(sample: Sample, whole: boolean): Row {
  const { usage, limit, stats: own } = sample.memory_stats;
  const size = (bytes: number | undefined): string => (bytes === undefined ? '--' : humanSize(bytes));
  const networks = Object.values(sample.networks ?? {});
  const received = networks.reduce((sum, { rx_bytes }) => sum + rx_bytes, 0);
  const sent = networks.reduce((sum, { tx_bytes }) => sum + tx_bytes, 0);
  const blocks = (op: string): number =>
    (sample.blkio_stats.io_service_bytes_recursive ?? []).reduce(
      (sum, one) => sum + (one.op === op ? one.value : 0),
      0,
    );
  return {
    ID: whole ? sample.id : sample.id.slice(0, 12),
    Container: sample.id.slice(0, 12),
    Name: sample.name.replace(/^\//, ''),
    CPUPerc: percent(cpuShare(sample)),
    MemUsage: `${size(usage)} / ${size(limit)}`,
    MemPerc: percent(usage === undefined || limit === undefined ? undefined : usage / limit),
    HostResident: size(own?.['berth_host_resident']),
    HostUnique: size(own?.['berth_host_unique']),
    TemplateShared: size(own?.['berth_template_shared']),
    NetIO: `${humanSize(received)} / ${humanSize(sent)}`,
    BlockIO: `${humanSize(blocks('read'))} / ${humanSize(blocks('write'))}`,
    PIDs: sample.pids_stats.current ?? '--',
  };
}

/** Of one processor: two that are busy are 2. Undefined where there are not two looks. */
function cpuShare({ cpu_stats: now, precpu_stats: before }: Sample): number | undefined {
  const host = (now.system_cpu_usage ?? 0) - (before.system_cpu_usage ?? 0);
  if (before.system_cpu_usage === undefined || host <= 0) return undefined;
  return ((now.cpu_usage.total_usage - before.cpu_usage.total_usage) / host) * (now.online_cpus ?? 1);
}

function percent(share: number | undefined): string {
  return share === undefined ? '--' : `${(share * 100).toFixed(2)}%`;
}
