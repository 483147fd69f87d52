/**
 * The marks container engines leave on a host beside their folders: a bridge, chains of iptables, overlay mounts, network
 * namespaces, monitors and shims. Looked at before, taken back after.
 */
import { files, findProcesses, killAndWait, runChecked, runProcess } from '#platform';
import { iptablesUndo, type Listing } from './iptables-remains.ts';

const TABLES = ['filter', 'nat'] as const;
/** Bridges of the default networks: dockerd's, and podman's with either of its network programs. */
export const DOCKER_BRIDGE = 'docker0';
const BRIDGES = [DOCKER_BRIDGE, 'cni-podman0', 'podman0'];

export interface HostBefore {
  readonly listings: readonly Listing[];
  /** Tables that iptables had made already, as nftables knows them. */
  readonly nftTables: string;
  readonly bridges: readonly string[];
}

export async function rememberHost(): Promise<HostBefore> {
  // Asked first: iptables makes the tables it lists.
  const { stdout: nftTables } = await runProcess(['nft', 'list', 'tables']);
  return { nftTables, listings: await listings(), bridges: await bridges() };
}

export async function hasBridge(name: string): Promise<boolean> {
  return await files.exists(`/sys/class/net/${name}`);
}

export async function takeBackHost(before: HostBefore): Promise<void> {
  for (const words of iptablesUndo(before.listings, await listings()))
    await runChecked(['iptables', '--wait', '10', ...words]);
  for (const { table, lines } of await listings()) {
    const isEmpty = lines.every((line) => line.startsWith('-P '));
    if (isEmpty && !before.nftTables.split('\n').includes(`table ip ${table}`))
      await runProcess(['nft', 'delete', 'table', 'ip', table]);
  }
  for (const name of await bridges())
    if (!before.bridges.includes(name)) await runChecked(['ip', 'link', 'delete', name]);
}

/** Ends the processes and mounts that belong to a folder. */
export async function clearFolder(folder: string): Promise<void> {
  for (const found of await findProcesses(folder)) if (found.pid !== process.pid) await killAndWait(found);
  for (const mount of mountsBelow(await files.readFile('/proc/self/mountinfo', 'utf8'), folder))
    await runChecked(['umount', mount]);
}

/** Mount points at or below `folder`, the innermost first. Pure. @source proc_pid_mountinfo(5) */
export function mountsBelow(mountinfo: string, folder: string): string[] {
  return mountinfo
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((point) => point === folder || point.startsWith(`${folder}/`))
    .reverse();
}

async function bridges(): Promise<string[]> {
  const found: string[] = [];
  for (const name of BRIDGES) if (await hasBridge(name)) found.push(name);
  return found;
}

async function listings(): Promise<Listing[]> {
  const found: Listing[] = [];
  for (const table of TABLES) {
    const { stdout } = await runChecked(['iptables', '--wait', '10', '-t', table, '-S']);
    found.push({ table, lines: stdout.trim().split('\n') });
  }
  return found;
}
