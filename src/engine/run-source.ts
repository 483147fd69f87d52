/** What a run goes on from instead of booting. */
import type { MemoryFile } from './machine.ts';
import type { RunOrigin } from './model.ts';

export interface RunSource {
  readonly origin: RunOrigin;
  readonly memory: MemoryFile;
  /** Of the machine that was put away, when it may go on under it. */
  readonly address?: string | undefined;
  /** Done before anything else of the start. */
  readonly prepare?: () => Promise<void>;
  /** It is there from the start, and may be empty until `ready`. */
  readonly stateFile: string;
  /** Settles when memory, state and disk hold what the guest goes on from. */
  readonly ready: Promise<void>;
}
