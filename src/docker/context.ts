/** What the handlers work on; daemon/ puts it together. */
import type { Engine } from '#engine';
import type { ImageService } from '#images';
import type { Volumes } from '#storage';
import type { EventLog } from './event-log.ts';
import type { Metric } from './prometheus.ts';

/** Facts of this host and build that do not change while the daemon runs. */
export interface SystemFacts {
  readonly version: string;
  readonly apiName: string;
  readonly hostName: string;
  readonly kernelVersion: string;
  readonly guestKernel: string;
  readonly operatingSystem: string;
  readonly architecture: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly qemuVersion: string;
  readonly stateFolder: string;
  readonly startedAtMs: number;
  readonly daemonId: string;
}

export interface DockerContext {
  readonly engine: Engine;
  readonly images: ImageService;
  readonly volumes: Volumes;
  readonly events: EventLog;
  readonly facts: SystemFacts;
  /** The accelerator in use and the warnings that follow from it. */
  readonly accelerator: () => { readonly name: string; readonly warnings: readonly string[] };
  readonly metrics: () => readonly Metric[];
  readonly log: (line: string) => void;
}
