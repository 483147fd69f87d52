/** What the VMs of a pool and its hosts consumed: asked of each host that is enabled, over connections judged like the master's. */
import { messageOf } from '#base';
import { nowMs } from '#platform';
import type { HostPeriod, PeriodPage, PeriodsWanted, VmPeriod } from '../../driver.ts';
import { threadsOf } from './pool-facts.ts';
import type { SessionCall } from './pool-reader.ts';
import { type HostRecord, timeOf, type VmRecord } from './records.ts';
import { hostPeriodsOf, periodsOf, STEP_SECONDS } from './round-robin.ts';
import { XapiClient } from './xapi-client.ts';
import type { Login } from './xapi-login.ts';

/** The way there and back is in the difference of the clocks, and the server tells whole seconds: less than this is none. */
const SAME_CLOCK_MS = 5_000;

export interface PeriodsAsked {
  readonly login: Login;
  readonly call: SessionCall;
  /** Without templates, snapshots and control domains. */
  readonly vms: readonly VmRecord[];
  readonly hosts: ReadonlyMap<string, HostRecord>;
  readonly wanted: PeriodsWanted;
  /** Hosts that did not answer, a sentence each, once all were asked. Their VMs run, and have no periods. */
  readonly unmeasured: (problems: readonly string[]) => void;
}

/** A page of each host. */
export async function* readPeriods(asked: PeriodsAsked): AsyncIterable<PeriodPage> {
  const running = asked.vms.filter((vm) => vm.power_state === 'Running' || vm.power_state === 'Paused');
  const own = new Set(running.map((vm) => vm.uuid));
  yield { running: [...own], periods: [], hosts: [] };
  const onHost = new Map<string, VmRecord[]>();
  for (const vm of running)
    if (vm.resident_on !== null) onHost.set(vm.resident_on, [...(onHost.get(vm.resident_on) ?? []), vm]);
  // One in maintenance may be switched off; VMs that run on it tell that it is not.
  const used = new Set(onHost.keys());
  for (const [ref, host] of asked.hosts) if (host.enabled) used.add(ref);
  const masterRef = String(await asked.call('session.get_this_host', [asked.login.session]));
  const problems: string[] = [];
  for (const ref of used) {
    const host = asked.hosts.get(ref);
    if (host === undefined) continue;
    const { wanted } = asked;
    const since = [wanted.hosts(host.uuid), ...(onHost.get(ref) ?? []).map((vm) => wanted.vms(vm.uuid))];
    // A host tells of all of it since one time.
    const sinceMs = Math.min(...since.flatMap((ms) => ms ?? []));
    if (!Number.isFinite(sinceMs)) continue;
    try {
      const measured = await periodsAt(asked, { ref, host, isMaster: ref === masterRef, sinceMs });
      yield { running: [], periods: measured.vms.filter((one) => own.has(one.nativeId)), hosts: measured.host };
    } catch (error) {
      problems.push(`${host.name_label} does not tell what it and its VMs consume: ${messageOf(error)}`.slice(0, 500));
    }
  }
  asked.unmeasured(problems);
}

interface AskedHost {
  readonly ref: string;
  readonly host: HostRecord;
  readonly isMaster: boolean;
  readonly sinceMs: number;
}

async function periodsAt(
  asked: PeriodsAsked,
  { ref, host, isMaster, sinceMs: fromMs }: AskedHost,
): Promise<{ readonly vms: readonly VmPeriod[]; readonly host: readonly HostPeriod[] }> {
  const { client: master, session } = asked.login;
  const time = await asked.call('host.get_servertime', [ref]);
  const aheadMs = (timeOf(String(time)) ?? nowMs()) - nowMs();
  const shiftMs = Math.abs(aheadMs) < SAME_CLOCK_MS ? 0 : Math.round(aheadMs / 1_000) * 1_000;
  const stepMs = STEP_SECONDS * 1_000;
  const sinceMs = Math.floor((fromMs + shiftMs) / stepMs) * stepMs;
  const query = new URLSearchParams({
    session_id: session,
    start: String(Math.max(0, sinceMs / 1_000)),
    interval: String(STEP_SECONDS),
    cf: 'AVERAGE',
    host: 'true',
    json: 'true',
  });
  const client = isMaster ? master : new XapiClient({ ...master.server, host: bracketed(host.address) });
  try {
    const text = await client.get(`/rrd_updates?${query}`, 'rrd_updates');
    const untilMs = nowMs() + aheadMs + SAME_CLOCK_MS;
    const isOver = (one: { readonly endMs: number }): boolean => one.endMs + shiftMs <= untilMs;
    const span = { sinceMs, shiftMs };
    return {
      vms: periodsOf(text, span).filter(isOver),
      host: hostPeriodsOf(text, { uuid: host.uuid, threads: threadsOf(host) }, span).filter(isOver),
    };
  } finally {
    if (!isMaster) client.close();
  }
}

function bracketed(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}
