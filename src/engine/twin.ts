/**
 * Twins: a second process of a QEMU whose machine is stopped (twin/twin.c).
 *
 * A twin has everything the original has learnt, the guest's memory and QEMU's translations of guest code above all, and
 * shares each page with it until one of them writes to it. Under hardware virtualization the kernel holds the guest's
 * processors, and a fork does not copy them: there are no twins then.
 */
import { basename } from 'node:path';
import { BerthError, messageOf } from '#base';
import { findProcesses, killAndWait, processInfo, runProcess } from '#platform';
import { agentSocketIn, type NetworkPlug, qmpSocketIn } from './machine.ts';
import type { Machine } from './model.ts';

/** It takes 10 ms; a loaded host a hundred times that. It gives up by itself before (twin.c, DEADLINE_SECONDS), in good order. */
const TWIN_DEADLINE_MS = 15_000;

export interface TwinPlan {
  /** berth-twin. */
  readonly program: string;
  readonly original: Machine;
  /** Who the twin runs as. */
  readonly uid: number;
  /** For its sockets; there, its user's, and its name as long as the original's: it takes its place in what ps shows. */
  readonly folder: string;
  readonly logFile: string;
  readonly plug: NetworkPlug & { readonly kind: 'tap' };
  /** Nothing goes through its tap before it is brought up. */
  readonly isCutOff?: boolean;
  /** What its guest's memory is instead of the original's: a file as large, which stays as it is. */
  readonly memoryFile?: string;
  /** Files the original has open, by their paths then, and what the twin has instead. */
  readonly files?: readonly (readonly [original: string, twin: string])[];
}

/** The program's command line: a value. */
export function twinArguments(plan: TwinPlan): [string, ...string[]] {
  const { original, folder, plug } = plan;
  const instead = (flag: string, from: string, to: string): string[] => [flag, `${from}=${to}`];
  return [
    plan.program,
    String(original.pid),
    ...['--user', String(plan.uid)],
    ...instead('--listen', qmpSocketIn(original.folder), qmpSocketIn(folder)),
    ...instead('--listen', agentSocketIn(original.folder), agentSocketIn(folder)),
    ...(plan.files ?? []).flatMap(([from, to]) => instead('--file', from, to)),
    ...(plan.memoryFile === undefined ? [] : ['--memory', plan.memoryFile]),
    ...['--tap', plug.tap],
    ...(plug.bridge === undefined ? [] : ['--bridge', plug.bridge]),
    ...(plan.isCutOff === true ? ['--link', 'down'] : []),
    ...instead('--rename', basename(original.folder), basename(folder)),
    ...['--log', plan.logFile],
  ];
}

/**
 * Makes a twin of a stopped machine; it is stopped as well, and nothing is connected to it.
 *
 * @throws machine.twin (unavailable) with the program's own words: there is none, and the original is as it was.
 */
export async function makeTwin(plan: TwinPlan): Promise<Machine> {
  const { accelerator } = plan.original;
  const refusal = (why: string, cause?: unknown): BerthError =>
    new BerthError('unavailable', 'machine.twin', `QEMU (pid ${plan.original.pid}) has no twin: ${why}`, { cause });
  try {
    const { exitCode, stdout, stderr } = await runProcess(twinArguments(plan), { deadlineMs: TWIN_DEADLINE_MS });
    const pid = Number(/^twin ([0-9]+)\n$/.exec(stdout)?.[1]);
    const info = exitCode === 0 && pid > 0 ? await processInfo(pid) : undefined;
    if (info === undefined) throw refusal(stderr.trim() || `berth-twin ended with exit status ${exitCode}`);
    return { pid, startTicks: info.startTicks, accelerator, folder: plan.folder };
  } catch (error) {
    // Killed in its last moment it leaves a twin that is whole, and nobody's.
    for (const found of await findProcesses(plan.folder)) await killAndWait(found);
    throw error instanceof BerthError && error.code === 'machine.twin' ? error : refusal(messageOf(error), error);
  }
}

/**
 * Lets QEMU give back what its guest has freed. A machine that was filled from a file has that file open, and would make holes
 * in it: it gets an empty one in place of it. Under any accelerator; what is made of the machine has it as well.
 *
 * @returns why it keeps what it once had; undefined when all is well.
 */
export async function letGoOfMemoryFile(program: string, machine: Machine): Promise<string | undefined> {
  const refusal = (why: string): string => `QEMU (pid ${machine.pid}) gives no memory back: ${why}`;
  try {
    const argv = [program, String(machine.pid), '--let-go', 'memory'] as const;
    const { exitCode, stderr } = await runProcess(argv, { deadlineMs: TWIN_DEADLINE_MS });
    if (exitCode === 0) return undefined;
    return refusal(stderr.trim() || `berth-twin ended with exit status ${exitCode}`);
  } catch (error) {
    return refusal(messageOf(error));
  }
}
