/** What a daemon keeps ready for starts, seen from outside: templates in its run folder, machines that wait. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { findProcesses, isAlive } from '#platform';
import type { TestDaemon } from './daemon.ts';
import { templateFigures } from './metrics.ts';
import { eventually } from './vm-client.ts';

export interface StoredTemplate {
  readonly folder: string;
  readonly description: string;
  readonly stateFile: string;
  readonly holder: { readonly pid: number; readonly startTicks: number };
  readonly memoryBytes: number;
}

export function templatesOf(daemon: TestDaemon): StoredTemplate[] {
  const parent = join(daemon.runDir, 'templates');
  return (existsSync(parent) ? readdirSync(parent) : []).flatMap((name) => {
    const folder = join(parent, name);
    const description = join(folder, 'template.json');
    if (!existsSync(description)) return [];
    const { holder, shape } = JSON.parse(readFileSync(description, 'utf8'));
    return [{ folder, description, stateFile: join(folder, 'state'), holder, memoryBytes: shape.memoryBytes }];
  });
}

/** The template that is there once no more are being made. */
export async function untilTemplate(daemon: TestDaemon, memoryMib = 256): Promise<StoredTemplate> {
  return await eventually(`a template of ${memoryMib} MiB`, 60_000, async () => {
    const found = templatesOf(daemon).find(({ memoryBytes }) => memoryBytes === memoryMib * 2 ** 20);
    const { made, adopted } = await templateFigures(daemon);
    return found !== undefined && made + adopted > 0 && (await isAlive(found.holder)) && found;
  });
}

/** Processes that make or hold templates. */
export async function templateProcesses(daemon: TestDaemon): Promise<number[]> {
  return (await findProcesses(`${daemon.runDir}/templates/`)).map(({ pid }) => pid);
}

/** QEMUs that wait for a VM. */
export async function waitingMachines(daemon: TestDaemon): Promise<number[]> {
  const found = await findProcesses(`${daemon.runDir}/vm/s`);
  return found.filter(({ argv }) => argv[0]?.includes('qemu')).map(({ pid }) => pid);
}

/** How the VM's last start began: pool, clone or boot. */
export async function wayOf(daemon: TestDaemon, name: string): Promise<string> {
  const { body } = await daemon.call('GET', `/containers/${name}/json`);
  return (body as { Berth: { BootMs: { way?: string } } }).Berth.BootMs.way ?? '';
}
