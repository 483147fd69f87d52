/**
 * What vSphere measured of its hosts, in the same real-time periods of 20 seconds as of VMs (vsphere-periods.ts).
 *
 * A host's processors are told as the part of them that was not idle, in hundredths of a percent; threads make time of it.
 *
 * @source vSphere Web Services API reference: performance counters `cpu.utilization.average`, `mem.consumed.average` of HostSystem
 *   (names are facts)
 */
import type { HostPeriod, SinceMs } from '../../driver.ts';
import { childAt, childrenNamed, textAt, type XmlElement } from '../../xml.ts';
import { type Moref, morefOf, reference } from './soap.ts';
import type { ServiceContent, VsphereClient } from './vsphere-client.ts';
import { PERIOD_SECONDS, periodSpec, wholePeriods } from './vsphere-periods.ts';

/** Hosts of one QueryPerf: an hour of one is 10 KB. */
const HOSTS_AT_ONCE = 50;
const WHOLE_HUNDREDTHS = 10_000n;
const NAMES = { 'cpu.utilization.average': 'cpu', 'mem.consumed.average': 'memory' } as const;
type Kind = (typeof NAMES)[keyof typeof NAMES];
type Keys = ReadonlyMap<string, Kind>;

export interface PerfParts {
  readonly client: VsphereClient;
  readonly content: ServiceContent;
  readonly perfManager: Moref;
}

export class HostPeriodReader {
  readonly #parts: PerfParts;
  /** As this server numbers them, for as long as the session lives. */
  #keys: Keys | undefined;

  constructor(parts: PerfParts) {
    this.#parts = parts;
  }

  /**
   * Of every host that is connected: of another one there is nothing, and asking is refused.
   *
   * @returns some hosts' at a time.
   */
  async *read({ since, untilMs, shiftMs }: HostsWanted): AsyncIterable<readonly HostPeriod[]> {
    const { client, content, perfManager } = this.#parts;
    this.#keys ??= await readKeys(this.#parts);
    const keys = this.#keys;
    if (keys.size === 0) return;
    const { view, members } = await client.view(content, 'HostSystem');
    const asked = members.filter(({ id }) => since(id) !== undefined);
    for (let from = 0; from < asked.length; from += HOSTS_AT_ONCE) {
      const threads = await this.#threadsOf(asked.slice(from, from + HOSTS_AT_ONCE));
      if (threads.size === 0) continue;
      const specs = [...threads.keys()].map((id) => {
        const sinceMs = wholePeriods((since(id) ?? untilMs) + shiftMs);
        return periodSpec({ type: 'HostSystem', id }, keys, { sinceMs, untilMs });
      });
      const answer = await client.call('QueryPerf', [reference('_this', perfManager), ...specs]);
      yield hostPeriodsOf(answer, keys, threads).map((one) => ({
        ...one,
        startMs: one.startMs - shiftMs,
        endMs: one.endMs - shiftMs,
      }));
    }
    await client.call('DestroyView', [reference('_this', view)]);
  }

  /** Of those that are connected, by id; 0 where it is not told. */
  async #threadsOf(hosts: readonly Moref[]): Promise<Map<string, bigint>> {
    const { client, content } = this.#parts;
    const told = await client.retrieve(content.propertyCollector, hosts, {
      properties: ['runtime.connectionState', 'summary.hardware.numCpuThreads'],
      read: ({ moref, properties }) => {
        const count = properties.get('summary.hardware.numCpuThreads')?.text ?? '';
        const isConnected = properties.get('runtime.connectionState')?.text === 'connected';
        return isConnected ? [[moref.id, /^[0-9]{1,5}$/.test(count) ? BigInt(count) : 0n] as const] : [];
      },
    });
    return new Map(told.flat());
  }
}

interface HostsWanted {
  /** Of our clock. */
  readonly since: SinceMs;
  /** Of the server's clock, as what it is asked for. */
  readonly untilMs: number;
  /** Turns the server's clock into ours. */
  readonly shiftMs: number;
}

async function readKeys({ client, content, perfManager }: PerfParts): Promise<Keys> {
  const [counters] = await client.retrieve(content.propertyCollector, [perfManager], {
    properties: ['perfCounter'],
    read: ({ properties }) => properties.get('perfCounter'),
  });
  const keys = new Map<string, Kind>();
  for (const info of childrenNamed(counters, 'PerfCounterInfo')) {
    const words = [textAt(info, 'groupInfo', 'key'), textAt(info, 'nameInfo', 'key'), textAt(info, 'rollupType')];
    const kind = NAMES[words.join('.') as keyof typeof NAMES] as Kind | undefined;
    const key = textAt(info, 'key');
    if (kind !== undefined && key !== undefined) keys.set(key, kind);
  }
  return keys;
}

/** Of one QueryPerf: each host's periods in their order. A figure that vSphere does not have (-1) is null. Pure. */
export function hostPeriodsOf(response: XmlElement, keys: Keys, threads: ReadonlyMap<string, bigint>): HostPeriod[] {
  return childrenNamed(response, 'returnval').flatMap((metric) => {
    const nativeId = morefOf(childAt(metric, 'entity'))?.id;
    if (nativeId === undefined) return [];
    const values = (kind: Kind): readonly XmlElement[] => {
      const series = childrenNamed(metric, 'value').find(
        (one) =>
          keys.get(textAt(one, 'id', 'counterId') ?? '') === kind && (textAt(one, 'id', 'instance') ?? '') === '',
      );
      return childrenNamed(series, 'value');
    };
    const [cpu, memory] = [values('cpu'), values('memory')];
    const periods = childrenNamed(metric, 'sampleInfo').flatMap((info, at): HostPeriod[] => {
      const endMs = Date.parse(textAt(info, 'timestamp') ?? '');
      const seconds = Number(textAt(info, 'interval') ?? PERIOD_SECONDS);
      if (!Number.isFinite(endMs) || !Number.isInteger(seconds) || seconds < 1) return [];
      const [hundredths, kib, count] = [numberOf(cpu[at]), numberOf(memory[at]), threads.get(nativeId) ?? 0n];
      const part = hundredths === null || hundredths < WHOLE_HUNDREDTHS ? hundredths : WHOLE_HUNDREDTHS;
      const cpuNanoseconds =
        part === null || count === 0n ? null : (part * count * BigInt(seconds) * 1_000_000_000n) / WHOLE_HUNDREDTHS;
      const memoryUsedBytes = kib === null ? null : kib * 1024n;
      return [{ nativeId, startMs: endMs - seconds * 1_000, endMs, cpuNanoseconds, memoryUsedBytes }];
    });
    return periods.sort((a, b) => a.endMs - b.endMs);
  });
}

function numberOf(value: XmlElement | undefined): bigint | null {
  return /^[0-9]{1,18}$/.test(value?.text ?? '') ? BigInt(value?.text ?? '0') : null;
}
