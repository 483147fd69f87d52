/**
 * What a driver of a hypervisor is: a small core that every one has, and facets that are there or are not. A facet that
 * is absent means that the hypervisor, or the right this source was given, does not allow it; nothing is stubbed.
 *
 *     open ─▶ fingerprint ─▶ snapshot … snapshot ─▶ close
 *                └─ events · power · samples · hostSamples · history · tags (what the session has)
 *
 * Failures are BerthErrors of the kinds `unavailable` (not reachable, broke off), `unauthenticated` (wrong
 * credentials), `denied`, `timeout`, `unsupported` and `invalid` (it talks nonsense).
 */
import type { BerthError } from '#base';
import type { HypervisorHost, PowerState, VmFacts } from './facts.ts';

export interface Credentials {
  readonly user: string;
  readonly password: string;
}

/** Where a source is and how much may be done there. */
export interface SourceTarget {
  readonly name: string;
  readonly url: URL;
  readonly credentials?: Credentials | undefined;
  /** SHA-256 of the server's certificate, 64 hex digits: it is then trusted whoever signed it, and no other is. */
  readonly pin?: string | undefined;
  /** False: the session is opened so that the hypervisor itself refuses changes, where it can. */
  readonly allowPower: boolean;
  /** The tags a VM was last seen with; undefined when it is not known. Absent where nobody is known. */
  readonly lastTags?: ((nativeId: string) => readonly string[] | undefined) | undefined;
}

export interface FleetDriver {
  /** `libvirt`, `vsphere`: what `source ls` shows. */
  readonly name: string;
  /** Schemes of the URLs it serves, without the colon. */
  readonly schemes: readonly string[];
  /** What is wrong with a URL, without connecting; empty when nothing is. */
  problemsOf(url: URL): readonly string[];
  /** Connects and signs in. @param signal - gives up; the session, once there, lives on. */
  open(target: SourceTarget, signal: AbortSignal): Promise<DriverSession>;
}

export interface Fingerprint {
  readonly product: string;
  readonly version: string;
  /** The endpoint's own name for itself. */
  readonly endpoint: string;
  /** What does not work here and why, for people. */
  readonly limits: readonly string[];
}

/** A part of the whole. The snapshot is complete only when the iteration ends without a throw. */
export interface SnapshotPage {
  readonly hosts: readonly HypervisorHost[];
  readonly vms: readonly VmFacts[];
  /** Native ids that are there but could not be read just now: their last facts stay. */
  readonly unread: readonly string[];
}

export interface DriverSession {
  fingerprint(): Promise<Fingerprint>;
  snapshot(signal: AbortSignal): AsyncIterable<SnapshotPage>;
  /** Safe to call twice. Never throws. */
  close(): Promise<void>;
  /** Resolves once, when the session is over, with the reason when it was not `close`. */
  readonly ended: Promise<BerthError | undefined>;
  readonly events?: EventFacet;
  readonly power?: PowerFacet;
  readonly samples?: SampleFacet;
  /** Instead of `samples`. */
  readonly periods?: PeriodFacet;
  /** Beside `samples`. */
  readonly hostSamples?: HostSampleFacet;
  readonly history?: HistoryFacet;
  readonly tags?: TagFacet;
}

/** `isCompared`: nobody told when it happened, it was found by comparing with how it stood before. */
export type VmChange =
  | { readonly kind: 'seen'; readonly vm: VmFacts; readonly isCompared?: true }
  /** The power state alone, at once; the other facts follow as `seen`. */
  | { readonly kind: 'power'; readonly nativeId: string; readonly powerState: PowerState }
  | { readonly kind: 'gone'; readonly nativeId: string; readonly isCompared?: true }
  /**
   * All of its tags, where they are read apart from VMs. They were others at `notBeforeMs` of our clock, 0 when nobody knows when;
   * null: nobody had read them since the VM is known, so that it has had them as long.
   */
  | {
      readonly kind: 'tags';
      readonly nativeId: string;
      readonly tags: readonly string[];
      readonly notBeforeMs: number | null;
    }
  /** Changes were missed: only a new snapshot tells. */
  | { readonly kind: 'missed' };

export interface EventFacet {
  /**
   * `watch` costs the hypervisor much and is begun after the session's first snapshot: what changed between that snapshot's reading
   * and the beginning of the watch is then found by comparing, and told before `watch` resolves.
   */
  readonly afterLook?: true;
  /** Changes come in the order in which they happened, from now on. @returns what ends it. */
  watch(onChange: (change: VmChange) => void): Promise<() => Promise<void>>;
}

export const POWER_VERBS = ['start', 'stop', 'shutdown', 'reboot', 'pause', 'resume', 'snapshot'] as const;
export type PowerVerb = (typeof POWER_VERBS)[number];

export interface PowerFacet {
  readonly verbs: readonly PowerVerb[];
  /** Returns when the hypervisor has accepted it, not when it is done. @throws fleet.refused, vm.not_found. */
  act(verb: PowerVerb, nativeId: string): Promise<void>;
}

/** Counters since the run began; null where the hypervisor does not say. */
export interface VmSample {
  readonly nativeId: string;
  readonly atMs: number;
  /** Names the run that the counters began with: another name, and they began anew. Null when the hypervisor has none. */
  readonly run: string | null;
  /** Where counters go over their top; absent where they never do. */
  readonly counterBits?: 32 | 64;
  readonly cpuNanoseconds: bigint | null;
  /** What the guest uses, else what it was given. A gauge: it says how it is now. */
  readonly memoryUsedBytes: bigint | null;
  readonly diskReadBytes: bigint | null;
  readonly diskWrittenBytes: bigint | null;
  readonly diskReads: bigint | null;
  readonly diskWrites: bigint | null;
  readonly receivedBytes: bigint | null;
  readonly sentBytes: bigint | null;
}

export interface SampleFacet {
  /** All VMs that have a machine, paused ones too, in as few calls as the hypervisor allows. */
  read(): Promise<readonly VmSample[]>;
}

/** What a VM consumed in a stretch of time that the hypervisor measured itself; null where it does not say. */
export interface VmPeriod {
  readonly nativeId: string;
  /** Our clock, as well as it is known. */
  readonly startMs: number;
  readonly endMs: number;
  readonly cpuNanoseconds: bigint | null;
  /** On average. */
  readonly memoryUsedBytes: bigint | null;
  readonly diskReadBytes: bigint | null;
  readonly diskWrittenBytes: bigint | null;
  readonly receivedBytes: bigint | null;
  readonly sentBytes: bigint | null;
}

/**
 * From when periods of a VM or host, by its native id, are wanted: those that ended after it, of our clock. Undefined when none are.
 */
export type SinceMs = (nativeId: string) => number | undefined;

export interface PeriodsWanted {
  readonly vms: SinceMs;
  readonly hosts: SinceMs;
}

export interface PeriodPage {
  /** VMs that run, whether or not anything was measured of them. */
  readonly running: readonly string[];
  readonly periods: readonly VmPeriod[];
  /** Of hosts, whose VMs were told of before or are told of here. */
  readonly hosts: readonly HostPeriod[];
}

/** For hypervisors without counters. */
export interface PeriodFacet {
  /**
   * Whole periods as far back as they are kept, each VM's and host's in their order. Of a large estate an hour of them is more than
   * memory should hold: they come in pages.
   */
  read(wanted: PeriodsWanted): AsyncIterable<PeriodPage>;
}

/** What a host used since it began to count; null where it does not say. */
export interface HostSample {
  /** The host's. */
  readonly nativeId: string;
  readonly atMs: number;
  /** Names the host's boot; null when it has no name: counters that fell, or began after the last reading, began anew. */
  readonly run: string | null;
  /** When its counters began, by our clock; null when nobody says. */
  readonly beganMs: number | null;
  /** Time of all its processors that was not idle. */
  readonly cpuNanoseconds: bigint | null;
  /** Whether its VMs' time is part of that (under Linux it is) or not (Xen's dom0). */
  readonly cpuHoldsVms: boolean;
  /** All that was in use, by VMs too. A gauge: it says how it is now. */
  readonly memoryUsedBytes: bigint | null;
}

export interface HostSampleFacet {
  /** Of every host of the source. */
  read(): Promise<readonly HostSample[]>;
}

/** What a host used, its VMs included, in a stretch of time that it measured itself; null where it does not say. */
export interface HostPeriod {
  readonly nativeId: string;
  /** Our clock, as well as it is known. */
  readonly startMs: number;
  readonly endMs: number;
  /** Time of all its processors that was not idle. */
  readonly cpuNanoseconds: bigint | null;
  /** On average. */
  readonly memoryUsedBytes: bigint | null;
}

/** For hypervisors that keep tags behind another door than VMs: it may be shut while the first is open. */
export interface TagFacet {
  /** Reads them, by way of trial. @throws why they cannot be read */
  count(): Promise<{ readonly tags: number; readonly vms: number }>;
}

/** Something the hypervisor remembers from before berth looked: how it was from then on, as far as the event says. */
export interface PastEvent {
  readonly nativeId: string;
  /** Our clock, as well as it is known. */
  readonly atMs: number;
  /** The hypervisor's own order of its events: the later has the larger. Machines are made and switched on within one millisecond. */
  readonly sequence: number;
  readonly powerState?: PowerState;
  /** Null: on none since then, or on which is not told. Absent: on the same as before. */
  readonly hostId?: string | null;
  /** It was made or registered then, or removed. */
  readonly existence?: 'began' | 'ended';
}

export interface HistoryFacet {
  /** In any order, each event once; of too many the newest come first. */
  since(fromMs: number): AsyncIterable<readonly PastEvent[]>;
}
