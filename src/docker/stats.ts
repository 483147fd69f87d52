/** `docker stats`: what a VM takes, in Docker's shape, once or every second. */
import type { Vm, VmRecord, VmUsage } from '#engine';
import { sleep } from '#platform';
import type { Call } from './call.ts';
import type { DockerContext } from './context.ts';
import { rfc3339 } from './durations.ts';
import { write } from './frames.ts';
import type { Route } from './router.ts';

const INTERVAL_MS = 1_000;
/** Between the two looks of a call that wants one answer: the docker CLI gives up after 2 s. */
const ONCE_INTERVAL_MS = 700;
/** As the guest numbers its disks: virtio's block devices, 16 minor numbers each. */
const MAJOR = 254;
const MINORS = 16;

export interface StatsSample {
  /** Absent when the VM does not run. */
  readonly usage: VmUsage | undefined;
  /** The look before it, for what is used in between. */
  readonly before: VmUsage | undefined;
  readonly cpus: number;
}

export function statsRoutes(context: DockerContext): Route[] {
  const stats = async (call: Call): Promise<void> => {
    const vm = context.engine.find(call.parameter('id'));
    if (!call.flag('stream', true)) {
      const before = call.flag('one-shot') ? undefined : await vm.usage();
      if (before !== undefined) await sleep(ONCE_INTERVAL_MS, call.signal).catch(() => {});
      call.reply(200, statsView(vm.record, { usage: await vm.usage(), before, cpus: context.facts.cpus }));
      return;
    }
    const response = call.stream('application/json');
    let before: VmUsage | undefined;
    while (!call.signal.aborted && isThere(context, vm)) {
      const usage = await vm.usage();
      const view = statsView(vm.record, { usage, before, cpus: context.facts.cpus });
      await write(response, `${JSON.stringify(view)}\n`);
      before = usage;
      await sleep(INTERVAL_MS, call.signal).catch(() => {});
    }
    response.end();
  };
  return [{ method: 'GET', path: '/containers/{id}/stats', summary: 'use of resources', handle: stats }];
}

function isThere(context: DockerContext, vm: Vm): boolean {
  return context.engine.list().includes(vm);
}

/** One sample. Of a VM that does not run, as dockerd's of a container: its names, and no figures. */
export function statsView(record: VmRecord, { usage, before, cpus }: StatsSample): object {
  const names = { id: record.id, name: `/${record.name}` };
  const read = rfc3339(usage === undefined ? undefined : usage.atMs);
  const preread = rfc3339(before?.atMs);
  const empty = {
    cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 },
    throttling_data: NOT_THROTTLED,
  };
  if (usage === undefined) {
    const none = { blkio_stats: blkio([]), num_procs: 0, storage_stats: {}, memory_stats: {} };
    return { ...names, read, preread, pids_stats: {}, ...none, cpu_stats: empty, precpu_stats: empty };
  }
  return {
    ...names,
    read,
    preread,
    pids_stats: usage.guest === undefined ? {} : { current: usage.guest.processes },
    blkio_stats: blkio(usage.disks),
    num_procs: 0,
    storage_stats: {},
    cpu_stats: cpu(usage, cpus),
    precpu_stats: before === undefined ? empty : cpu(before, cpus),
    memory_stats: memory(record, usage),
    ...(usage.network === undefined ? {} : { networks: { eth0: network(usage.network) } }),
  };
}

const NOT_THROTTLED = { periods: 0, throttled_periods: 0, throttled_time: 0 };

function cpu({ cpuUserNs, cpuSystemNs, hostCpuNs }: VmUsage, cpus: number): object {
  return {
    cpu_usage: {
      total_usage: cpuUserNs + cpuSystemNs,
      usage_in_kernelmode: cpuSystemNs,
      usage_in_usermode: cpuUserNs,
    },
    system_cpu_usage: hostCpuNs,
    online_cpus: cpus,
    throttling_data: NOT_THROTTLED,
  };
}

function memory({ spec }: VmRecord, { guest, memory: host }: VmUsage): object {
  const own = {
    ...(guest === undefined ? {} : { berth_guest_used: guest.usedBytes }),
    ...(host === undefined
      ? {}
      : {
          berth_host_resident: host.residentBytes,
          berth_host_unique: host.uniqueBytes,
          berth_template_shared: host.templateSharedBytes,
        }),
  };
  // Of a guest that cannot be asked, what the host gives it is the next best.
  const usage = guest?.usedBytes ?? Math.min(spec.memoryBytes, host?.residentBytes ?? 0);
  return { usage, limit: spec.memoryBytes, stats: own };
}

function network({ received, sent }: NonNullable<VmUsage['network']>): object {
  return {
    rx_bytes: received.bytes,
    rx_packets: received.packets,
    rx_errors: received.errors,
    rx_dropped: received.dropped,
    tx_bytes: sent.bytes,
    tx_packets: sent.packets,
    tx_errors: sent.errors,
    tx_dropped: sent.dropped,
  };
}

/** Root and data disk come first, the slots of volumes behind them. */
function numberOf(device: string): number {
  if (device === 'root') return 0;
  return device === 'data' ? 1 : 2 + Number(device.slice('volume'.length));
}

function blkio(disks: VmUsage['disks']): object {
  const entries = (read: 'readBytes' | 'readOperations', written: 'writtenBytes' | 'writeOperations'): object[] =>
    disks.flatMap((disk) => {
      const place = { major: MAJOR, minor: numberOf(disk.device) * MINORS };
      return [
        { ...place, op: 'read', value: disk[read] },
        { ...place, op: 'write', value: disk[written] },
      ];
    });
  return {
    io_service_bytes_recursive: entries('readBytes', 'writtenBytes'),
    io_serviced_recursive: entries('readOperations', 'writeOperations'),
    io_queue_recursive: null,
    io_service_time_recursive: null,
    io_wait_time_recursive: null,
    io_merged_recursive: null,
    io_time_recursive: null,
    sectors_recursive: null,
  };
}
