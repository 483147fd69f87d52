/** The templates of this daemon: where, how large, and whether at all. */
import { GIB, MIB } from '#base';
import { endTemplateProcesses, type NetworkPlug, Templates } from '#engine';
import { files, hostFacts } from '#platform';
import type { Installation } from '#setup';
import { kvmGroup, TEMPLATE_UID } from './qemu.ts';
import type { DaemonSettings } from './settings.ts';

/** Of the host's memory, for all templates together. */
const BUDGET_SHARE = 0.25;
const MAX_BUDGET_BYTES = 4 * GIB;

/** Of the host's memory, for machines that wait; each takes about 45 MB (decisions/0008). */
const POOL_SHARE = 1 / 16;
const POOLED_BYTES = 45 * MIB;
const MAX_POOL = 64;

/** BERTH_POOL: most machines that wait for a VM; `off` or 0 for none. Without it: by the host's memory. */
export function poolSize(): number {
  const wish = process.env['BERTH_POOL'];
  if (wish === 'off') return 0;
  return wish === undefined || wish === '' || !/^[0-9]+$/.test(wish)
    ? Math.min(MAX_POOL, Math.floor((hostFacts().memoryBytes * POOL_SHARE) / POOLED_BYTES))
    : Number(wish);
}

/** BERTH_TEMPLATES=off: every start boots its kernel. BERTH_TEMPLATES_BYTES: another budget. */
export async function openTemplates(
  settings: DaemonSettings,
  installation: Installation,
  log: (line: string) => void,
): Promise<Templates | undefined> {
  const folder = `${settings.runFolder}/templates`;
  if (process.env['BERTH_TEMPLATES'] === 'off') {
    // An earlier daemon may have had some.
    await endTemplateProcesses(folder, []);
    await files.rm(folder, { recursive: true, force: true });
    return undefined;
  }
  const { isRoot } = settings;
  const plug = (tap: string): NetworkPlug =>
    isRoot ? { kind: 'tap', tap, bridge: undefined } : { kind: 'user', isolated: true, address: '', ports: [] };
  return new Templates({
    folder,
    budgetBytes:
      Number(process.env['BERTH_TEMPLATES_BYTES']) ||
      Math.min(hostFacts().memoryBytes * BUDGET_SHARE, MAX_BUDGET_BYTES),
    launcher: installation.launcher,
    memoryProgram: installation.memoryProgram,
    identity: isRoot ? { uid: TEMPLATE_UID, group: await kvmGroup() } : undefined,
    plug,
    plugKind: plug('').kind,
    log,
  });
}
