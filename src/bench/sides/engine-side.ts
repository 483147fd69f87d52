import type { DockerApi } from '../docker-api.ts';
import type { SideId } from './side-names.ts';

/** An engine with the Docker API that was made ready for a run. */
export interface EngineSide {
  readonly id: SideId;
  readonly title: string;
  readonly isVm: boolean;
  readonly api: DockerApi;
  readonly image: string;
  /** The command in front of `run --rm IMAGE …`; absent when nobody would type it for this side. */
  readonly commandLine?: readonly [string, ...string[]];
  /** What that command needs in its environment beside the user's own. */
  readonly commandEnvironment?: Readonly<Record<string, string>>;
  /** Attaching makes the container: the clock of a start begins there. */
  readonly attachMakes?: true;
  /** Versions and the like, for the report. */
  readonly facts: readonly string[];
  /** Removes what the run made and ends what it started. Safe after a failure and after a cancelled run. */
  close(): Promise<void>;
}
