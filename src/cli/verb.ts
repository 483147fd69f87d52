/** What a command is made of; `verb-table.ts` says which there are. */
import type { DaemonSettings } from '#base';
import type { CommandShape, Options } from './command-line.ts';
import type { EngineClient } from './engine-client.ts';

export interface VerbContext {
  readonly engine: EngineClient;
  readonly place: DaemonSettings;
  /** Every verb there is. */
  readonly verbs: readonly VerbEntry[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Standard output; waits for a slow reader. */
  out(text: string | Uint8Array): Promise<void>;
  /** A line on standard error, as it is. */
  note(line: string): void;
}

export interface Verb {
  readonly shape: CommandShape;
  /** Runs it and gives the exit code. */
  run(context: VerbContext, options: Options, args: readonly string[]): Promise<number>;
  /** Which exit code a failure has, where it is not the usual one. */
  readonly exitCodeOf?: (error: unknown) => number;
}

export interface VerbEntry {
  readonly name: string;
  readonly group: 'Virtual machines' | 'Images' | 'The fleet' | 'The engine';
  readonly summary: string;
  readonly load: () => Promise<Verb>;
}
