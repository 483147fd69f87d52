/**
 * From what was known of a source and what it shows now to what changed. Pure: no clock, no store.
 *
 * Invariants, held by property tests:
 *   - only a complete snapshot, or the source saying so itself, makes a VM leave;
 *   - a VM that is there but could not be read stays as it was;
 *   - every sighting belongs to exactly one VM, and a VM has at most one sighting in one source.
 */
import type { VmChange } from '../driver.ts';
import { factsText, type VmFacts } from '../facts.ts';
import { type Candidate, type Evidence, matchStrangers } from './identity.ts';

export interface KnownSighting {
  readonly vmId: number;
  /** `factsText` of its last facts. */
  readonly text: string;
}

/** What is known of one source, and of all VMs as far as somebody new may be one of them. */
export interface Previous {
  sighting(nativeId: string): KnownSighting | undefined;
  /** All that this source shows, as far as known. */
  nativeIds(): Iterable<string>;
  /** Whether this source shows that VM, under whichever id. */
  shows(vmId: number): boolean;
  /** Whether any VM has or had this UUID, in whichever source. */
  isKnownUuid(uuid: string): boolean;
  /** Every VM that has or had this UUID, in whichever source. */
  withUuid(uuid: string): readonly Candidate[];
}

export type Observation =
  | {
      readonly kind: 'snapshot';
      readonly vms: readonly VmFacts[];
      readonly unread: readonly string[];
      readonly isComplete: boolean;
    }
  /** Of a look that is taken in parts, see look.ts. `leaving`: native ids that the whole of it did not show. */
  | { readonly kind: 'part'; readonly vms: readonly VmFacts[]; readonly leaving: readonly string[] }
  | { readonly kind: 'change'; readonly change: VmChange };

export type Finding =
  /** A VM nobody knew. */
  | { readonly kind: 'appeared'; readonly facts: VmFacts }
  /** A VM that is known shows itself here: through a second source, under another native id, or again after it was gone. */
  | {
      readonly kind: 'joined';
      readonly vmId: number;
      readonly facts: VmFacts;
      readonly why: 'second_source' | 're_registered' | 'returned';
    }
  | { readonly kind: 'changed'; readonly vmId: number; readonly facts: VmFacts }
  | { readonly kind: 'left'; readonly vmId: number; readonly nativeId: string };

export function reconcile(previous: Previous, observation: Observation): Finding[] {
  if (observation.kind === 'change') return reconcileChange(previous, observation.change);
  // A page that changed underneath may show a VM twice: the later word counts.
  const seen = new Map(observation.vms.map((facts) => [facts.nativeId, facts]));
  const left = leavingOf(previous, observation, seen).flatMap((nativeId) => {
    const known = previous.sighting(nativeId);
    return known === undefined ? [] : [{ kind: 'left' as const, vmId: known.vmId, nativeId }];
  });
  const leaving = new Set(left.map((finding) => finding.vmId));
  return [...left, ...meet(previous, [...seen.values()], leaving)];
}

function leavingOf(
  previous: Previous,
  observation: Exclude<Observation, { kind: 'change' }>,
  seen: ReadonlyMap<string, VmFacts>,
): readonly string[] {
  if (observation.kind === 'part') return observation.leaving;
  if (!observation.isComplete) return [];
  const unread = new Set(observation.unread);
  return [...previous.nativeIds()].filter((nativeId) => !seen.has(nativeId) && !unread.has(nativeId));
}

function reconcileChange(previous: Previous, change: VmChange): Finding[] {
  switch (change.kind) {
    case 'seen':
      return meet(previous, [change.vm], new Set());
    case 'power': {
      const known = previous.sighting(change.nativeId);
      if (known === undefined) return [];
      const before = JSON.parse(known.text) as VmFacts;
      if (before.powerState === change.powerState) return [];
      return [{ kind: 'changed', vmId: known.vmId, facts: { ...before, powerState: change.powerState } }];
    }
    case 'gone': {
      const known = previous.sighting(change.nativeId);
      return known === undefined ? [] : [{ kind: 'left', vmId: known.vmId, nativeId: change.nativeId }];
    }
    case 'tags': {
      const known = previous.sighting(change.nativeId);
      if (known === undefined) return [];
      const facts = { ...(JSON.parse(known.text) as VmFacts), tags: [...change.tags] };
      return factsText(facts) === known.text ? [] : [{ kind: 'changed', vmId: known.vmId, facts }];
    }
    case 'missed':
      return [];
  }
}

/** @param leaving - VMs whose sighting here ends with this observation: one of them may be back under another id. */
function meet(previous: Previous, vms: readonly VmFacts[], leaving: ReadonlySet<number>): Finding[] {
  const findings: Finding[] = [];
  const strangers: VmFacts[] = [];
  for (const facts of vms) {
    const known = previous.sighting(facts.nativeId);
    if (known === undefined) strangers.push(facts);
    else if (known.text !== factsText(facts)) findings.push({ kind: 'changed', vmId: known.vmId, facts });
  }
  if (strangers.length === 0) return findings;
  const candidatesOf = (uuid: string): readonly Candidate[] =>
    previous.withUuid(uuid).filter(({ vmId }) => leaving.has(vmId) || !previous.shows(vmId));
  const evidence = strangers.map((facts) => ({ nativeId: facts.nativeId, ...evidenceOf(facts) }));
  const matched = matchStrangers(evidence, candidatesOf);
  for (const facts of strangers) {
    const candidate = matched.get(facts.nativeId);
    if (candidate === undefined) {
      findings.push({ kind: 'appeared', facts });
      continue;
    }
    const why = leaving.has(candidate.vmId) ? 're_registered' : candidate.isGone ? 'returned' : 'second_source';
    findings.push({ kind: 'joined', vmId: candidate.vmId, facts, why });
  }
  return findings;
}

export function evidenceOf(facts: VmFacts): Evidence {
  return {
    uuid: facts.uuid,
    name: facts.name,
    macs: facts.nics.flatMap((nic) => (nic.mac === null ? [] : [nic.mac])),
  };
}
