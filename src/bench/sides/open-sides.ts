/** Finds out which sides can be measured here, makes them ready, and ends them again whatever happened. */
import { messageOf, UndoStack } from '#base';
import type { BenchRun } from '../bench-run.ts';
import { findProgram } from '../programs.ts';
import type { MissingSide, SideFacts } from '../report.ts';
import { bareCold } from './bare-cold.ts';
import { type BareMachine, openBareMachine } from './bare-machine.ts';
import type { BareSide } from './bare-side.ts';
import { openBareTemplate } from './bare-template.ts';
import { openPrivateBerth, openRunningBerth } from './berth.ts';
import { openDockerd } from './dockerd.ts';

import type { EngineSide } from './engine-side.ts';
import { DOCKER_BRIDGE, hasBridge } from './host-marks.ts';
import { openPodman } from './podman.ts';
import { SIDE_TITLES, type SideId } from './side-names.ts';

export interface SidesWanted {
  readonly ids: readonly SideId[];
  /** A berth daemon that runs already; absent: one is started. */
  readonly socket: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly isRoot: boolean;
}

export interface OpenSides {
  readonly engines: readonly EngineSide[];
  readonly bares: readonly BareSide[];
  /** What the bare sides run on, for a benchmark that wants a QEMU to itself. */
  readonly machine: BareMachine | undefined;
  readonly missing: readonly MissingSide[];
  readonly facts: readonly SideFacts[];
  close(): Promise<void>;
}

/** @throws what a side that is installed throws when it does not work: that is an error, not a missing side. */
export async function openSides(run: BenchRun, wanted: SidesWanted): Promise<OpenSides> {
  const undo = new UndoStack();
  const close = () => undo.unwind((error) => run.onProgress(`while cleaning up: ${messageOf(error)}\n`));
  const engines: EngineSide[] = [];
  const bares: BareSide[] = [];
  let machine: BareMachine | undefined;
  const missing: MissingSide[] = [];
  const wants = (id: SideId): boolean => wanted.ids.includes(id);
  const add = <T extends { close(): Promise<void> }>(list: T[], side: T): T => {
    undo.push(() => side.close());
    list.push(side);
    return side;
  };
  const without = (id: SideId, why: string, brought?: string): void => {
    missing.push({ side: SIDE_TITLES[id], why, ...(brought === undefined ? {} : { package: brought }) });
  };
  try {
    run.onProgress('starting the sides');
    // Without being measured it is there, too: it has the image for the others.
    let own = wanted.socket === undefined ? await openPrivateBerth(run, 'berth') : undefined;
    const berth = own ?? (await openRunningBerth(run, wanted.socket ?? ''));
    undo.push(berth.close);
    if (wants('berth')) engines.push(berth);
    if (wants('cold')) {
      const cold = await openPrivateBerth(run, 'cold');
      add(engines, cold);
      own ??= cold;
    }
    const containers = ['dockerd', 'podman'] as const;
    const image = berth.image;
    const imageArchive = containers.some(wants) ? await berth.api.saveImage(image) : Buffer.alloc(0);
    for (const id of containers.filter(wants)) {
      const program = await findProgram(id, wanted.env);
      if (program === undefined) without(id, `${id} is not installed`, id === 'dockerd' ? 'docker.io' : 'podman');
      else if (!wanted.isRoot) without(id, 'only root can run it with the default network');
      else if (id === 'podman') add(engines, await openPodman(run, { program, imageArchive, image }));
      else if (await hasBridge(DOCKER_BRIDGE)) {
        without(id, `the bridge ${DOCKER_BRIDGE} is there: stop the dockerd it belongs to, or delete it`);
      } else add(engines, await openDockerd(run, { program, imageArchive, image }));
    }
    if (wants('bare') || wants('template')) {
      if (own === undefined || !wanted.isRoot) {
        const why = wanted.isRoot
          ? 'it takes its image and bridge from a berth daemon that this run starts'
          : 'only root can make its tap';
        for (const id of ['bare', 'template'] as const) if (wants(id)) without(id, why);
      } else {
        machine = await openBareMachine(run, own);
        undo.push(machine.close);
        if (wants('bare')) add(bares, bareCold(run, machine));
        if (wants('template')) add(bares, await openBareTemplate(run, machine));
      }
    }
  } catch (error) {
    await close();
    throw error;
  }
  const facts = [...engines, ...bares].map((side) => ({ side: side.title, facts: side.facts }));
  return { engines, bares, machine, missing, facts, close };
}
