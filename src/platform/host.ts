import { readFile } from 'node:fs/promises';
import { arch, cpus, hostname, loadavg, release, totalmem } from 'node:os';

export interface HostFacts {
  readonly hostName: string;
  readonly kernelVersion: string;
  /** In OCI's words: amd64, arm64. */
  readonly architecture: string;
  readonly cpus: number;
  readonly cpuModel: string;
  readonly memoryBytes: number;
}

export function hostFacts(): HostFacts {
  const architectures: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };
  return {
    hostName: hostname(),
    kernelVersion: release(),
    architecture: architectures[arch()] ?? arch(),
    cpus: cpus().length,
    cpuModel: cpus()[0]?.model ?? 'an unknown processor',
    memoryBytes: totalmem(),
  };
}

/** What the kernel would give to new processes without swapping. */
export async function availableMemoryBytes(): Promise<number> {
  const found = /^MemAvailable:\s+([0-9]+) kB/m.exec(await readFile('/proc/meminfo', 'utf8'));
  return Number(found?.[1] ?? 0) * 1024;
}

/** Processes that ran or wanted to, on average over the last minute. */
export function hostLoad(): number {
  return loadavg()[0] ?? 0;
}
