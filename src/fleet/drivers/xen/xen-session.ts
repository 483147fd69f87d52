/** One open shell on a Xen host as a session of a driver. */
import { BerthError } from '#base';
import { type ChildStreams, nowMs } from '#platform';
import type { DriverSession, Fingerprint, PowerFacet, SampleFacet, SnapshotPage } from '../../driver.ts';
import { COUNTERS, DOMAIN_VERBS, type DomainVerb, domainCommand, HAS_WATCH, INFO } from './commands.ts';
import { parseCounters, samplesOf } from './counters.ts';
import { nativeIdOf, parseInfo } from './domain-facts.ts';
import { readEstate, readHost, readRows } from './estate.ts';
import { hostSampleFacet, readBootId } from './host-use.ts';
import { commandFailure, prepare, type XenShell } from './shell.ts';
import { eventFacet } from './xen-events.ts';

/** xl itself waits 60 s for a guest to acknowledge. @source xen 4.17, tools/libs/light/libxl_domain.c */
const POWER_DEADLINE_MS = 90_000;

const LIMITS = [
  'a domain that does not run is not known to xl: it is gone from the list until it runs again; start is not offered',
  "what Xen itself takes of the processors is not told: dom0's time is the host's own, the rest counts as idle",
  'disks served by other than dom0 have no size; those served by a QEMU have no counters',
];

export interface SessionParts {
  readonly shell: XenShell;
  readonly where: string;
  readonly allowPower: boolean;
  readonly startWatch: () => Promise<ChildStreams>;
  /** Another shell, which is to be prepared. The caller closes it. */
  readonly startShell: () => Promise<XenShell>;
  /** What the watch's end means, from its last words. */
  readonly explain: (words: string) => BerthError;
}

export async function openSession(parts: SessionParts): Promise<DriverSession> {
  const { shell, allowPower, startWatch } = parts;
  const hostId = (await readHost(shell)).nativeId;
  // A session does not outlive the host's boot.
  const bootId = await readBootId(shell);
  const hasWatch = (await shell.run(HAS_WATCH)).status === 0;
  let settleLost: (error: BerthError) => void = () => {};
  const lost = new Promise<BerthError>((resolve) => {
    settleLost = resolve;
  });
  const limits = [
    ...LIMITS,
    ...(hasWatch
      ? ['pause, resume and new names have no events: they are found within seconds by looking']
      : ['no events: xenstore-watch is missing there; changes are found by looking']),
    ...(allowPower ? [] : ['read-only by our own restraint alone: whoever may list domains may also destroy them']),
  ];
  const onLost = (words: string): void => {
    settleLost(parts.explain(words));
    shell.close();
  };
  return {
    // The watch's end closes the shell, and is the reason then.
    ended: Promise.race([lost, shell.ended]),
    fingerprint: () => fingerprint(shell, limits),
    snapshot: (signal) => snapshot(shell, signal),
    close: async () => shell.close(),
    ...(hasWatch ? { events: eventFacet({ shell, hostId, startWatch, onLost }) } : {}),
    ...(allowPower ? { power: powerFacet(parts) } : {}),
    samples: sampleFacet(shell, bootId),
    hostSamples: hostSampleFacet(shell, { hostId, bootId }),
  };
}

async function fingerprint(shell: XenShell, limits: readonly string[]): Promise<Fingerprint> {
  const info = parseInfo(await shell.output(INFO));
  return {
    product: 'Xen',
    version: info.get('xen_version') ?? '',
    endpoint: info.get('host') ?? '',
    limits,
  };
}

/** One page: everything comes in a handful of commands however many domains there are. */
async function* snapshot(shell: XenShell, signal: AbortSignal): AsyncIterable<SnapshotPage> {
  signal.throwIfAborted();
  const host = await readHost(shell);
  signal.throwIfAborted();
  const { vms, unread } = await readEstate(shell, host.nativeId);
  signal.throwIfAborted();
  yield { hosts: [host], vms, unread };
}

/** On a shell of its own: a guest that does not heed a shutdown makes xl wait for a minute, and looks go on meanwhile. */
function powerFacet({ shell, where, startShell }: SessionParts): PowerFacet {
  const isVerb = (verb: string): verb is DomainVerb => verb in DOMAIN_VERBS;
  return {
    verbs: Object.keys(DOMAIN_VERBS) as DomainVerb[],
    act: async (verb, nativeId) => {
      if (!isVerb(verb)) {
        const text = `Xen without libvirt has no ${verb}: xl knows domains only while they run`;
        throw new BerthError('unsupported', 'xen.verb', text, { hint: `xl create FILE on the host starts one` });
      }
      const { rows } = await readRows(shell);
      const row = rows.find((one) => one.domid !== 0 && nativeIdOf(one) === nativeId);
      if (row === undefined)
        throw new BerthError('not_found', 'vm.not_found', `no domain with the UUID ${nativeId} runs at ${where}`);
      const own = await startShell();
      try {
        await prepare(own, where);
        const command = domainCommand(verb, row.domid);
        const { status, stderr, stdout } = await own.run(command, POWER_DEADLINE_MS);
        if (status !== 0) throw commandFailure({ command, status, words: stderr || stdout, where });
      } finally {
        own.close();
      }
    },
  };
}

function sampleFacet(shell: XenShell, bootId: string): SampleFacet {
  return {
    read: async () => {
      const { rows } = await readRows(shell);
      const counters = parseCounters(await shell.output(COUNTERS));
      return samplesOf(rows, counters, { atMs: nowMs(), bootId });
    },
  };
}
