/** What `GET /metrics` tells of this daemon. Names begin with `berth_`; seconds and bytes throughout. */
import { Histogram, type Metric, type Sample } from '#docker';
import type { BootStage, Engine, StartCounters, Templates, VmRecord } from '#engine';

/** A start from the pool takes 50 ms, a boot under emulation some seconds. */
const STAGE_BOUNDS_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const STAGES: readonly BootStage[] = ['queuedMs', 'spawnedMs', 'restoredMs', 'agentMs', 'rootfsMs', 'processMs'];

export class DaemonMetrics {
  readonly #stages = new Histogram(STAGE_BOUNDS_SECONDS);

  /** A VM's main process has begun to run. */
  started({ boot }: VmRecord): void {
    for (const stage of STAGES) {
      const ms = boot[stage];
      const labels = { way: boot.way ?? 'unknown', stage: stage.slice(0, -'Ms'.length) };
      if (ms !== undefined) this.#stages.observe(labels, ms / 1000);
    }
  }

  collect(sources: {
    readonly engine: Engine;
    readonly counters: StartCounters;
    readonly templates: Templates | undefined;
    readonly startedAtMs: number;
  }): Metric[] {
    const { engine, counters, templates } = sources;
    const { made = 0, adopted = 0, discarded = 0, failed = 0 } = templates?.counters ?? {};
    return [
      gauge('berth_vms', 'VMs by state.', statesOf(engine)),
      counter('berth_starts_total', 'Machines that were started, by the way they came to be.', [
        ...(['pool', 'clone', 'boot'] as const).map((way) => ({ labels: { way }, value: counters[way] })),
      ]),
      counter('berth_clone_failures_total', 'Starts from the pool or a template that had to go another way.', [
        { value: counters.cloneFailures },
      ]),
      counter(
        'berth_template_changes_total',
        'What became of templates: made here, adopted from an earlier daemon, thrown away, or not to be made.',
        Object.entries({ made, adopted, discarded, failed }).map(([change, value]) => ({ labels: { change }, value })),
      ),
      gauge('berth_pool_machines', 'Machines that wait for a VM.', [{ value: engine.waitingMachines }]),
      gauge('berth_pool_moulds', 'Sizes of which any number of machines can be had at once.', [
        { value: engine.moulds },
      ]),
      {
        name: 'berth_start_stage_seconds',
        help: 'From the request to start until a stage was reached, of VMs that run.',
        type: 'histogram',
        samples: this.#stages.samples(),
      },
      gauge('berth_daemon_resident_bytes', "The daemon's own memory.", [{ value: process.memoryUsage.rss() }]),
      gauge('berth_daemon_start_time_seconds', 'When the daemon began, since the epoch.', [
        { value: sources.startedAtMs / 1000 },
      ]),
    ];
  }
}

function statesOf(engine: Engine): Sample[] {
  const states = ['created', 'starting', 'running', 'paused', 'ending', 'exited', 'removing', 'dead'];
  const counts = new Map(states.map((state) => [state, 0]));
  for (const { record } of engine.list()) counts.set(record.state.name, (counts.get(record.state.name) ?? 0) + 1);
  return [...counts].map(([state, value]) => ({ labels: { state }, value }));
}

function counter(name: string, help: string, samples: readonly Sample[]): Metric {
  return { name, help, type: 'counter', samples };
}

function gauge(name: string, help: string, samples: readonly Sample[]): Metric {
  return { name, help, type: 'gauge', samples };
}
