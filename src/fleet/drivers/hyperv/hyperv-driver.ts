/**
 * Hyper-V by PowerShell over ssh: one login, one powershell.exe, one constant script (script.ts).
 *
 *     hyperv+ssh://user@host[:port]/[?keyfile=PATH][&known_hosts=PATH]
 *
 * There are no events: changes are found by looking. Power verbs have a connection of their own, so that they do not wait for a look.
 */
import * as v from 'valibot';
import { BerthError, type ErrorKind } from '#base';
import { nowMs, spawnStreams } from '#platform';
import type {
  DriverSession,
  FleetDriver,
  HostSampleFacet,
  PowerFacet,
  PowerVerb,
  SampleFacet,
  SnapshotPage,
} from '../../driver.ts';
import { parseHostFacts, parseVmFacts, type VmFacts } from '../../facts.ts';
import { SSH_ENVIRONMENT, SSH_PARAMETERS, sshArguments, sshFailure, sshProblems } from '../../ssh.ts';
import { type CounterClass, type Estate, readCounters, readEstate, readHostUse, readName, readUse } from './answers.ts';
import { hostSample, vmSamples } from './counters.ts';
import { RemoteLine } from './remote-line.ts';
import { REMOTE_WORDS } from './script.ts';
import { hasSettings, hostFacts, isVm, partsByVm, vmFacts } from './vm-facts.ts';

/** The first query wakes WMI's provider up. */
const NAME_DEADLINE_MS = 30_000;
/** A host of 1,000 VMs with its disks' sizes, which are asked for one by one. */
const LOOK_DEADLINE_MS = 5 * 60_000;
const USE_DEADLINE_MS = 60_000;
const ACT_DEADLINE_MS = 60_000;

const LIMITS = [
  'no events: changes are found by looking',
  'of VMs that share a name with another one no processor time is counted: Hyper-V names its counters after them',
];

export const hypervDriver: FleetDriver = { name: 'hyperv', schemes: ['hyperv+ssh'], problemsOf, open };

function problemsOf(url: URL): string[] {
  const problems = sshProblems(url);
  if (url.pathname !== '' && url.pathname !== '/') problems.push(`the path ${url.pathname} means nothing to Hyper-V`);
  for (const name of url.searchParams.keys())
    if (!SSH_PARAMETERS.includes(name))
      problems.push(`the parameter ${name} is not known; ${SSH_PARAMETERS.join(' and ')} are`);
  return problems;
}

async function open(...[target, signal]: Parameters<FleetDriver['open']>): Promise<DriverSession> {
  signal.throwIfAborted();
  const problems = problemsOf(target.url);
  if (problems.length > 0) throw new BerthError('invalid', 'source.url', `${target.url.href}: ${problems.join('; ')}`);
  const where = target.url.host;
  const startLine = async (): Promise<RemoteLine> => {
    const child = await spawnStreams(sshArguments(target.url, REMOTE_WORDS), SSH_ENVIRONMENT);
    return new RemoteLine({ child, where, explain: (words) => explain(words, where) });
  };
  const line = await startLine();
  const giveUp = (): void => line.close();
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    signal.throwIfAborted();
    const session = sessionOf(line, where);
    // The first answer proves the login, and that it is a Windows.
    await session.fingerprint();
    return target.allowPower ? { ...session, power: powerFacet(startLine, where) } : session;
  } catch (error) {
    line.close();
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

function explain(words: string, where: string): BerthError {
  if (!/powershell(\.exe)?['"]?:? .*not (found|recognized)|not found.*powershell/i.test(words))
    return sshFailure(words, where);
  const hint = 'is it a Windows host? Xen and libvirt hosts are other sources';
  return new BerthError('unsupported', 'hyperv.no_powershell', `there is no powershell.exe at ${where}`, { hint });
}

function sessionOf(line: RemoteLine, where: string): DriverSession {
  return {
    ended: line.ended,
    fingerprint: async () => {
      const { computer, system } = readName(await line.ask(['name'], NAME_DEADLINE_MS), where);
      return {
        product: system[0]?.Caption || 'Hyper-V',
        version: system[0]?.Version || '0',
        endpoint: computer[0]?.Name || where,
        limits: LIMITS,
      };
    },
    snapshot: (signal) => snapshot(line, where, signal),
    close: async () => line.close(),
    samples: sampleFacet(line, where),
    hostSamples: hostSampleFacet(line, where),
  };
}

/** One page: everything comes in one answer. */
async function* snapshot(line: RemoteLine, where: string, signal: AbortSignal): AsyncIterable<SnapshotPage> {
  signal.throwIfAborted();
  const estate = readEstate(await line.ask(['look'], LOOK_DEADLINE_MS), where);
  signal.throwIfAborted();
  requireSight(estate.systems, where);
  const host = parseHostFacts(hostFacts(estate));
  const vms: VmFacts[] = [];
  const unread = new Set<string>();
  const seen = new Set<string>();
  const partOf = partsByVm(estate);
  for (const system of estate.systems.filter(isVm)) {
    const vm = seen.has(system.Name) ? undefined : tryFacts(system, partOf(system.Name), host.nativeId);
    seen.add(system.Name);
    if (vm === undefined) unread.add(system.Name);
    else vms.push(vm);
  }
  yield { hosts: [host], vms: vms.filter((vm) => !unread.has(vm.nativeId)), unread: [...unread] };
}

/**
 * WMI shows a user who may not see VMs an empty list instead of refusing. The host itself is always among the systems for one
 * who may: without it nothing is known, and nobody is gone.
 */
function requireSight(systems: readonly { readonly Name: string }[], where: string): void {
  if (systems.some((one) => !isVm(one))) return;
  const text = `${where} shows no system of Hyper-V, not even itself: this user may not see them`;
  const hint = 'the user has to be a Hyper-V Administrator and an Administrator there';
  throw new BerthError('denied', 'hyperv.denied', text, { hint });
}

function tryFacts(system: Estate['systems'][number], estate: Estate, hostId: string): VmFacts | undefined {
  if (!hasSettings(estate, system)) return undefined;
  try {
    return parseVmFacts(vmFacts(system, estate, hostId));
  } catch (error) {
    if (error instanceof BerthError && error.code === 'fleet.facts') return undefined;
    throw error;
  }
}

/** Those of a class that this Windows does not have, or not for this user, are not known. */
async function countersOf<Class extends CounterClass>(line: RemoteLine, of: Class, where: string) {
  try {
    return readCounters(of, await line.ask([of], USE_DEADLINE_MS), where);
  } catch (error) {
    if (error instanceof BerthError && /^(unsupported|denied)$/.test(error.kind)) return undefined;
    throw error;
  }
}

function sampleFacet(line: RemoteLine, where: string): SampleFacet {
  return {
    read: async () => {
      const use = readUse(await line.ask(['use'], USE_DEADLINE_MS), where);
      requireSight(use.systems, where);
      const processors = await countersOf(line, 'processors', where);
      const atMs = nowMs();
      const cards = await countersOf(line, 'cards', where);
      const drives = await countersOf(line, 'drives', where);
      return vmSamples(use, { processors, cards, drives }, atMs);
    },
  };
}

function hostSampleFacet(line: RemoteLine, where: string): HostSampleFacet {
  return {
    read: async () => {
      const host = readHostUse(await line.ask(['host'], USE_DEADLINE_MS), where);
      const logical = (await countersOf(line, 'logical', where)) ?? [];
      const sample = hostSample({ ...host, logical }, nowMs());
      return sample === undefined ? [] : [sample];
    },
  };
}

const VERBS: readonly PowerVerb[] = ['start', 'stop', 'shutdown', 'reboot', 'pause', 'resume', 'snapshot'];

/** What methods return when they did not begin. @source Msvm_ComputerSystem.RequestStateChange, Msvm_ShutdownComponent */
const RETURNED: Readonly<Record<number, readonly [ErrorKind, string, string]>> = {
  [-1]: ['not_found', 'vm.not_found', 'there is no such VM'],
  [-2]: ['unsupported', 'hyperv.no_tools', "the guest's integration services do not answer; stop ends it at once"],
  32769: ['denied', 'hyperv.denied', 'access is denied'],
  32770: ['unsupported', 'hyperv.unsupported', 'it is not supported for this VM'],
  32774: ['conflict', 'hyperv.busy', 'the VM is in use'],
  32775: ['conflict', 'hyperv.bad_state', 'the VM is not in a state for it'],
  32778: ['exhausted', 'hyperv.no_room', 'there is not enough memory'],
  32780: ['conflict', 'hyperv.bad_state', 'the guest is not ready'],
};
/** Done, and begun as a job. */
const ACCEPTED: readonly number[] = [0, 4096];

function powerFacet(startLine: () => Promise<RemoteLine>, where: string): PowerFacet {
  return {
    verbs: VERBS,
    act: async (verb, nativeId) => {
      if (!isVm({ Name: nativeId }))
        throw new BerthError('not_found', 'vm.not_found', `${nativeId.slice(0, 100)} is no GUID of a VM at ${where}`);
      const own = await startLine();
      try {
        const answer = await own.ask(['act', verb, nativeId], ACT_DEADLINE_MS);
        const parsed = v.safeParse(v.object({ returned: v.number() }), answer);
        const returned = parsed.success ? parsed.output.returned : Number.NaN;
        if (ACCEPTED.includes(returned)) return;
        const [kind, code, told] = RETURNED[returned] ?? ['conflict', 'hyperv.refused', `Hyper-V returned ${returned}`];
        throw new BerthError(kind, code, `${where} refused to ${verb} ${nativeId}: ${told}`, { facts: { returned } });
      } finally {
        own.close();
      }
    },
  };
}
