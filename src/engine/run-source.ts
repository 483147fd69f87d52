/** What a run goes on from instead of booting. */
import { type LaunchPlan, type MemoryFile, RunningMachine } from './machine.ts';
import type { RunOrigin } from './model.ts';

export interface RunSource {
  readonly origin: RunOrigin;
  /** Of the machine that was put away, when it may go on under it. */
  readonly address?: string | undefined;
  /** Done before anything else of the start. */
  readonly prepare?: () => Promise<void>;
  /** The machine, in place of the one that `plan` would launch. @throws why there is none */
  obtain(plan: LaunchPlan): Promise<ObtainedMachine>;
}

export interface ObtainedMachine {
  readonly machine: RunningMachine;
  /** Called once it is connected: lets it run where the original stopped, cut off. @throws qmp.*; why it never will */
  run(): Promise<void>;
  /** Lets it speak to the network. @throws qmp.*, process.* */
  plugIn(): Promise<void>;
}

/** A machine that was put away, or is being put away: QEMU starts meanwhile, and is filled once `ready` settles. */
export async function launchSaved(
  plan: LaunchPlan,
  saved: { readonly memory: MemoryFile; readonly stateFile: string },
  ready: Promise<void>,
): Promise<ObtainedMachine> {
  const machine = await RunningMachine.launch({ ...plan, ...saved });
  const run = async (): Promise<void> => {
    await machine.plug(false);
    await ready;
    await machine.restore();
  };
  return { machine, run, plugIn: () => machine.plug(true) };
}
