/** The daemon as a whole: ping, version, info, events, disk use. */
import { nowMs } from '#platform';
import type { Call } from './call.ts';
import { listEntry, stateName } from './container-views.ts';
import type { DockerContext } from './context.ts';
import { sizesOf } from './disk-sizes.ts';
import { parseTime, rfc3339, signalAt } from './durations.ts';
import { EVENT_FILTERS, eventMatches, eventView } from './event-log.ts';
import { parseFilters } from './filters.ts';
import { write } from './frames.ts';
import { imageListEntry } from './image-views.ts';
import { METRICS_TYPE, renderMetrics } from './prometheus.ts';
import { API_VERSION, MIN_API_VERSION, type Route } from './router.ts';
import { volumesInUse } from './volumes.ts';

/** On every answer of dockerd; the CLI negotiates its version from them. */
export function standardHeaders(version: string): Record<string, string> {
  return {
    'Api-Version': API_VERSION.join('.'),
    // Checkpoints are experimental in Docker; its command line shows them only to such a daemon.
    'Docker-Experimental': 'true',
    Ostype: 'linux',
    Server: `berth/${version} (linux)`,
  };
}

export function systemRoutes(context: DockerContext): Route[] {
  const { facts } = context;

  const ping = (call: Call): void => {
    call.replyText('OK', {
      'Builder-Version': '1',
      Swarm: 'inactive',
      'Cache-Control': 'no-cache, no-store, must-revalidate',
      Pragma: 'no-cache',
    });
  };

  const version = (call: Call): void => {
    const api = { ApiVersion: API_VERSION.join('.'), MinAPIVersion: MIN_API_VERSION.join('.') };
    const details = {
      ...api,
      Arch: facts.architecture,
      BuildTime: '',
      Experimental: 'true',
      GitCommit: '',
      GoVersion: '',
      KernelVersion: facts.kernelVersion,
      Os: 'linux',
    };
    call.reply(200, {
      Platform: { Name: 'berth: virtual machines behind the Docker Engine API' },
      // Clients read the first component, and tell engines apart by its name.
      Components: [
        { Name: 'Engine', Version: facts.version, Details: details },
        { Name: 'QEMU', Version: facts.qemuVersion, Details: { Accelerator: context.accelerator().name } },
        { Name: 'guest kernel', Version: facts.guestKernel, Details: {} },
      ],
      Version: facts.version,
      ...api,
      GitCommit: '',
      GoVersion: '',
      Os: 'linux',
      Arch: facts.architecture,
      KernelVersion: facts.kernelVersion,
      Experimental: true,
      BuildTime: '',
    });
  };

  const info = async (call: Call): Promise<void> => {
    const states = context.engine.list().map((vm) => stateName(vm.record.state));
    const count = (...names: string[]): number => states.filter((state) => names.includes(state)).length;
    const accelerator = context.accelerator();
    call.reply(200, {
      ID: facts.daemonId,
      Containers: states.length,
      ContainersRunning: count('running'),
      ContainersPaused: count('paused'),
      ContainersStopped: count('created', 'exited', 'dead', 'removing'),
      Images: (await context.images.list()).length,
      Driver: 'erofs-overlay',
      DriverStatus: [
        ['Accelerator', accelerator.name],
        ['QEMU', facts.qemuVersion],
        ['Guest kernel', facts.guestKernel],
      ],
      Plugins: { Volume: [], Network: ['bridge', 'none'], Authorization: null, Log: ['json-file'] },
      MemoryLimit: true,
      SwapLimit: false,
      CpuCfsPeriod: false,
      CpuCfsQuota: false,
      CPUShares: false,
      CPUSet: false,
      PidsLimit: false,
      IPv4Forwarding: true,
      Debug: false,
      NFd: 0,
      OomKillDisable: false,
      NGoroutines: 0,
      SystemTime: rfc3339(nowMs()),
      LoggingDriver: 'json-file',
      CgroupDriver: 'none',
      CgroupVersion: '2',
      NEventsListener: 0,
      KernelVersion: facts.kernelVersion,
      OperatingSystem: facts.operatingSystem,
      OSVersion: '',
      OSType: 'linux',
      Architecture: facts.architecture === 'amd64' ? 'x86_64' : 'aarch64',
      IndexServerAddress: 'https://index.docker.io/v1/',
      RegistryConfig: { InsecureRegistryCIDRs: ['127.0.0.0/8', '::1/128'], IndexConfigs: {}, Mirrors: [] },
      NCPU: facts.cpus,
      MemTotal: facts.memoryBytes,
      GenericResources: null,
      DockerRootDir: facts.stateFolder,
      HttpProxy: '',
      HttpsProxy: '',
      NoProxy: '',
      Name: facts.hostName,
      Labels: [],
      ExperimentalBuild: true,
      ServerVersion: facts.version,
      Runtimes: { berth: { path: 'qemu-system' } },
      DefaultRuntime: 'berth',
      Swarm: {
        NodeID: '',
        NodeAddr: '',
        LocalNodeState: 'inactive',
        ControlAvailable: false,
        Error: '',
        RemoteManagers: null,
      },
      LiveRestoreEnabled: true,
      Isolation: '',
      InitBinary: '',
      ContainerdCommit: { ID: '' },
      RuncCommit: { ID: '' },
      InitCommit: { ID: '' },
      SecurityOptions: ['name=seccomp,profile=qemu', 'name=vm'],
      Warnings: accelerator.warnings,
    });
  };

  const events = async (call: Call): Promise<void> => {
    const filters = parseFilters(call.query.get('filters'), EVENT_FILTERS);
    const now = nowMs();
    const since = parseTime(call.query.get('since'), now);
    const until = parseTime(call.query.get('until'), now);
    const response = call.stream('application/json');
    let writing = Promise.resolve();
    const send = (event: Parameters<typeof eventView>[0]): void => {
      if (!eventMatches(event, filters) || (until !== undefined && event.timeMs > until)) return;
      writing = writing.then(() => write(response, `${JSON.stringify(eventView(event))}\n`));
    };
    const ended = new Promise<void>((resolve) => {
      call.signal.addEventListener('abort', () => resolve(), { once: true });
      if (until !== undefined) signalAt(until, now).addEventListener('abort', () => resolve(), { once: true });
    });
    const unsubscribe = context.events.subscribe(send);
    if (since !== undefined) for (const event of context.events.since(since)) send(event);
    await ended;
    unsubscribe();
    await writing;
    response.end();
  };

  const diskUse = async (call: Call): Promise<void> => {
    const usage = await context.images.diskUsage();
    const images = await context.images.list();
    const now = nowMs();
    call.reply(200, {
      LayersSize: usage.layersBytes,
      Images: images.map((image) =>
        imageListEntry(image, context.engine.list().filter((vm) => vm.record.spec.imageId === image.id).length),
      ),
      Containers: await Promise.all(
        context.engine.list().map(async (vm) => listEntry(vm.record, now, await sizesOf(context, vm))),
      ),
      Volumes: await volumesInUse(context),
      BuildCache: [],
      BuilderSize: 0,
    });
  };

  return [
    { method: 'HEAD', path: '/_ping', summary: 'is it there', handle: ping },
    { method: 'GET', path: '/_ping', summary: 'is it there', handle: ping },
    { method: 'GET', path: '/version', summary: 'versions', handle: version },
    { method: 'GET', path: '/info', summary: 'the host', handle: info },
    { method: 'GET', path: '/events', summary: 'what happens', handle: events },
    {
      method: 'GET',
      path: '/metrics',
      summary: "berth's own figures, for Prometheus",
      handle: (call) => call.replyText(renderMetrics(context.metrics()), { 'Content-Type': METRICS_TYPE }),
    },
    { method: 'GET', path: '/system/df', summary: 'disk use', handle: diskUse },
  ];
}
