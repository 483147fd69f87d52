/** What every part of one benchmark run is given. */
import type { Installation } from '#setup';

export interface BenchRun {
  readonly installation: Installation;
  /** Fires when the run is to end early; what was opened is closed all the same. */
  readonly signal: AbortSignal;
  /** `uname -r` of the host: a container has it, a VM has another. */
  readonly hostKernel: string;
  /** Begins the name of everything this run makes in an engine, so that it is found again. */
  readonly prefix: string;
  /** The user's environment, for commands that a person would type. */
  readonly env: Readonly<Record<string, string>>;
  /** A line on standard error that may be overwritten by the next one. */
  readonly onProgress: (line: string) => void;
}
