/** What the VMs of a pool consumed: asked of each host that runs some, over connections judged like the master's. */
import { messageOf } from '#base';
import { nowMs } from '#platform';
import type { VmPeriod } from '../../driver.ts';
import type { SessionCall } from './pool-reader.ts';
import { type HostRecord, timeOf, type VmRecord } from './records.ts';
import { periodsOf, STEP_SECONDS } from './round-robin.ts';
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
  readonly sinceMs: number;
}

/** `problems`: hosts that did not answer, one sentence each. Their VMs run, and have no periods. */
export async function readPeriods(asked: PeriodsAsked): Promise<{
  readonly running: readonly string[];
  readonly periods: readonly VmPeriod[];
  readonly problems: readonly string[];
}> {
  const running = asked.vms.filter((vm) => vm.power_state === 'Running' || vm.power_state === 'Paused');
  const own = new Set(running.map((vm) => vm.uuid));
  const used = new Set(running.flatMap((vm) => vm.resident_on ?? []));
  const masterRef = String(await asked.call('session.get_this_host', [asked.login.session]));
  const periods: VmPeriod[] = [];
  const problems: string[] = [];
  for (const ref of used) {
    const host = asked.hosts.get(ref);
    if (host === undefined) continue;
    try {
      for (const one of await periodsAt(asked, { ref, host, isMaster: ref === masterRef }))
        if (own.has(one.nativeId)) periods.push(one);
    } catch (error) {
      problems.push(`${host.name_label} does not tell what its VMs consume: ${messageOf(error)}`.slice(0, 500));
    }
  }
  return { running: [...own], periods, problems };
}

interface AskedHost {
  readonly ref: string;
  readonly host: HostRecord;
  readonly isMaster: boolean;
}

async function periodsAt(asked: PeriodsAsked, { ref, host, isMaster }: AskedHost): Promise<VmPeriod[]> {
  const { client: master, session } = asked.login;
  const time = await asked.call('host.get_servertime', [ref]);
  const aheadMs = (timeOf(String(time)) ?? nowMs()) - nowMs();
  const shiftMs = Math.abs(aheadMs) < SAME_CLOCK_MS ? 0 : Math.round(aheadMs / 1_000) * 1_000;
  const stepMs = STEP_SECONDS * 1_000;
  const sinceMs = Math.floor((asked.sinceMs + shiftMs) / stepMs) * stepMs;
  const query = new URLSearchParams({
    session_id: session,
    start: String(Math.max(0, sinceMs / 1_000)),
    interval: String(STEP_SECONDS),
    cf: 'AVERAGE',
    json: 'true',
  });
  const client = isMaster ? master : new XapiClient({ ...master.server, host: bracketed(host.address) });
  try {
    const text = await client.get(`/rrd_updates?${query}`, 'rrd_updates');
    const untilMs = nowMs() + aheadMs + SAME_CLOCK_MS;
    return periodsOf(text, { sinceMs, shiftMs }).filter((one) => one.endMs + shiftMs <= untilMs);
  } finally {
    if (!isMaster) client.close();
  }
}

function bracketed(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}
