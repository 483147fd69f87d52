/**
 * A VM's history as intervals, one after another without a gap for as long as some source shows it. Pure.
 *
 *     nothing ─▶ open ─(host, power state, shape or owner changed)─▶ closed + open … ─(left)─▶ closed
 *
 * Clocks of sources run apart from ours: an instant that a source gives is never taken to be later than when we heard
 * of it, nor earlier than the interval it ends.
 */
import type { PowerState } from '../facts.ts';

/** What one interval is about: while none of it changes, it stays open. */
export interface Standing {
  readonly sourceId: number;
  /** The host whatever a source calls it: its UUID, else its name in lower case; null when nobody says. */
  readonly hostKey: string | null;
  readonly hostName: string | null;
  readonly powerState: PowerState;
  readonly vcpus: number | null;
  readonly memoryBytes: number | null;
  readonly diskBytes: number | null;
  /** How many addresses its network cards have; null when it was not told. */
  readonly addresses: number | null;
  readonly owner: string | null;
}

/** When something changed, as well as it is known. */
export interface Moment {
  /** The source told when it happened (`event`), or it was found by looking (`poll`). */
  readonly how: 'event' | 'poll';
  /** Our clock when we learned of it. */
  readonly observedMs: number;
  /** When it happened: equal to `observedMs` unless the source gave an instant. */
  readonly atMs: number;
  /** It had not happened yet at this time of ours: the last time we looked. */
  readonly notBeforeMs: number;
  /** Nobody had asked before: what is told now was so from when the VM was first seen, as far as anybody knows. */
  readonly isFirstWord?: true;
}

export interface OpenInterval {
  readonly id: number;
  readonly standing: Standing;
  readonly openedMs: number;
}

/** Addresses are told a moment after a VM has started: what is learned so soon was so from the interval's beginning. */
const SETTLE_MS = 10_000;
/** Tags that are read apart come after the first look at a large estate; later than this nobody can say that they were there all along. */
const FIRST_WORD_MS = 10 * 60_000;

export interface Step {
  /** The open interval stays open, and this is known of it from its beginning. */
  readonly learn?: { readonly id: number } & Pick<Standing, 'addresses' | 'owner'>;
  readonly close?: { readonly id: number; readonly moment: Moment };
  readonly open?: {
    readonly standing: Standing;
    readonly moment: Moment;
    readonly causes: readonly Cause[];
    readonly movedFrom: string | null;
  };
}

/** `source`: the source that showed the VM was removed, another one goes on showing it as it was. */
export type Cause = 'appeared' | 'moved' | 'power' | 'shape' | 'owner' | 'source';

/** A VM's history so far: its open interval, or when the last one ended, or neither. */
export type Last = OpenInterval | { readonly endedMs: number } | undefined;

/** @param next - undefined when no source shows the VM any more. */
export function step(last: Last, next: Standing | undefined, moment: Moment): Step {
  const open = last !== undefined && 'openedMs' in last ? last : undefined;
  const when = inOrder(moment, last !== undefined && 'endedMs' in last ? last.endedMs : open?.openedMs);
  if (open === undefined) {
    if (next === undefined) return {};
    return { open: { standing: next, moment: when, causes: ['appeared'], movedFrom: null } };
  }
  if (next === undefined) return { close: { id: open.id, moment: when } };
  // A hypervisor that says nothing of them just now has not taken them away.
  const standing = { ...next, addresses: next.addresses ?? open.standing.addresses };
  const causes = causesOf(open.standing, standing);
  if (causes.length === 0) return {};
  const { addresses, owner } = standing;
  const isFirstWord = moment.isFirstWord === true;
  const learned = { ...open.standing, addresses, ...(isFirstWord ? { owner } : {}) };
  const isLearned = causesOf(learned, standing).length === 0;
  if (isLearned && when.atMs - open.openedMs < (isFirstWord ? FIRST_WORD_MS : SETTLE_MS))
    return { learn: { id: open.id, addresses, owner } };
  const movedFrom = causes.includes('moved') ? (open.standing.hostName ?? open.standing.hostKey) : null;
  return { close: { id: open.id, moment: when }, open: { standing, moment: when, causes, movedFrom } };
}

export function causesOf(before: Standing, after: Standing): Cause[] {
  const causes: Cause[] = [];
  if (before.hostKey !== after.hostKey) causes.push('moved');
  if (before.powerState !== after.powerState) causes.push('power');
  const shape = (one: Standing): string => JSON.stringify([one.vcpus, one.memoryBytes, one.diskBytes, one.addresses]);
  if (shape(before) !== shape(after)) causes.push('shape');
  if (before.owner !== after.owner) causes.push('owner');
  return causes;
}

/** Not after we heard of it, not before the interval that it ends. Our own clock may have been set back. */
function inOrder(moment: Moment, earliestMs = Number.NEGATIVE_INFINITY): Moment {
  const observedMs = Math.max(moment.observedMs, earliestMs);
  const atMs = Math.min(Math.max(moment.atMs, earliestMs), observedMs);
  return { ...moment, observedMs, atMs, notBeforeMs: Math.min(Math.max(moment.notBeforeMs, earliestMs), atMs) };
}

/** A source's sighting as far as the choice between several matters. */
export interface Claim {
  readonly standing: Standing;
  readonly isFresh: boolean;
  readonly firstSeenMs: number;
}

/**
 * Of several sightings of one VM, the one whose word counts: of a source that answers before one that does not, then
 * the oldest. Two sources that say the same never make the history flicker.
 */
export function leadingClaim<C extends Claim>(claims: readonly C[]): C | undefined {
  return [...claims].sort(
    (a, b) =>
      Number(b.isFresh) - Number(a.isFresh) ||
      a.firstSeenMs - b.firstSeenMs ||
      a.standing.sourceId - b.standing.sourceId,
  )[0];
}
