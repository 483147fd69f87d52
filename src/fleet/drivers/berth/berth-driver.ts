/** berth's own VMs as a source like any other, through a port that the daemon connects to the engine. */
import { BerthError } from '#base';
import type { DriverSession, FleetDriver, HostSample, PowerVerb, VmSample } from '../../driver.ts';
import { parseHostFacts, parseVmFacts, type VmFacts } from '../../facts.ts';

/** Written in one piece: a few milliseconds in which berthd does nothing else. */
const PAGE_VMS = 50;

export const OWN_SCHEME = 'berth';
export const OWN_URL = `${OWN_SCHEME}:///`;

/** What the engine tells of its VMs. Facts are checked here as any hypervisor's are. */
export interface OwnVms {
  readonly version: string;
  host(): unknown;
  /** Facts of every VM. */
  list(): Iterable<unknown>;
  /** Undefined when it is no more. */
  find(nativeId: string): unknown;
  /** Told the native id whenever something about a VM may have changed. @returns what ends it */
  onChange(listener: (nativeId: string) => void): () => void;
  readonly verbs: readonly PowerVerb[];
  act(verb: PowerVerb, nativeId: string): Promise<void>;
  samples(): Promise<readonly VmSample[]>;
  hostSamples(): Promise<readonly HostSample[]>;
}

export function berthDriver(own: OwnVms): FleetDriver {
  return {
    name: 'berth',
    schemes: [OWN_SCHEME],
    problemsOf: (url) => (url.href === OWN_URL ? [] : [`this berth is ${OWN_URL}; others cannot be reached yet`]),
    open: async (target, signal) => {
      signal.throwIfAborted();
      return openSession(own, target.allowPower);
    },
  };
}

function openSession(own: OwnVms, allowPower: boolean): DriverSession {
  let isClosed = false;
  let finish: (error: BerthError | undefined) => void = () => {};
  const ended = new Promise<BerthError | undefined>((resolve) => {
    finish = resolve;
  });
  const requireOpen = (): void => {
    if (isClosed) throw new BerthError('unavailable', 'session.closed', "the session with berth's own VMs is closed");
  };
  return {
    ended,
    fingerprint: async () => {
      requireOpen();
      const { name } = parseHostFacts(own.host());
      return { product: 'berth', version: own.version, endpoint: name, limits: [] };
    },
    snapshot: async function* () {
      requireOpen();
      yield { hosts: [parseHostFacts(own.host())], vms: [], unread: [] };
      let vms: VmFacts[] = [];
      for (const facts of own.list()) {
        vms.push(parseVmFacts(facts));
        if (vms.length < PAGE_VMS) continue;
        yield { hosts: [], vms, unread: [] };
        vms = [];
      }
      yield { hosts: [], vms, unread: [] };
    },
    close: async () => {
      isClosed = true;
      finish(undefined);
    },
    events: {
      watch: async (onChange) => {
        const stop = own.onChange((nativeId) => {
          if (isClosed) return;
          const facts = own.find(nativeId);
          onChange(facts === undefined ? { kind: 'gone', nativeId } : { kind: 'seen', vm: parseVmFacts(facts) });
        });
        void ended.then(stop);
        return async () => stop();
      },
    },
    ...(allowPower ? { power: { verbs: own.verbs, act: (verb, nativeId) => own.act(verb, nativeId) } } : {}),
    samples: { read: () => own.samples() },
    hostSamples: { read: () => own.hostSamples() },
  };
}
