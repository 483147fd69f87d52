/**
 * What a hypervisor remembers of a VM, as intervals before the first one that berth saw. Pure.
 *
 *     told …─┬─ told ─┬─ seen by berth …
 *            event    event (of the past)   first look
 *
 * Only what two events, or an event and the first look, hold between them is told. Where the last event does not lead to what
 * the first look found, something in between is missing: that stretch is left out, nobody knows what it was.
 */
import type { PastEvent } from '../driver.ts';
import type { PowerState } from '../facts.ts';
import type { Cause } from './intervals.ts';

export interface ToldInterval {
  readonly openedMs: number;
  readonly closedMs: number;
  readonly hostId: string | null;
  readonly powerState: PowerState;
  readonly causes: readonly Cause[];
  /** Native id of the host before, when it changed. */
  readonly movedFrom: string | null;
}

/** What berth saw first. */
export interface FirstSeen {
  readonly atMs: number;
  readonly powerState: PowerState;
  /** Null when nobody says. */
  readonly hostId: string | null;
}

interface State {
  readonly atMs: number;
  readonly isThere: boolean;
  /** Undefined: no event told it yet. */
  readonly powerState: PowerState | undefined;
  /** Undefined: no event told it yet. Null: as in PastEvent. */
  readonly hostId: string | null | undefined;
}

/** @param events - of one VM, in any order; what is not before `first` is left out. */
export function toldIntervals(events: readonly PastEvent[], first: FirstSeen): ToldInterval[] {
  const states = statesOf(events.filter((event) => event.atMs < first.atMs));
  const end = states.at(-1);
  // Nothing that came later moved it: where it went last is where it was found.
  if (end !== undefined && end.hostId === null) states.splice(-1, 1, { ...end, hostId: first.hostId });
  const told: ToldInterval[] = [];
  for (const [at, state] of states.entries()) {
    const next = states[at + 1];
    if (!state.isThere) continue;
    const powerState = state.powerState ?? powerUntil(states.slice(at + 1)) ?? first.powerState;
    const leadsOn =
      powerState === first.powerState && (first.hostId === null || (state.hostId ?? null) === first.hostId);
    if (next === undefined && !leadsOn) continue;
    const before = states[at - 1];
    const isNew = before === undefined || !before.isThere;
    const hasMoved = !isNew && before.hostId !== state.hostId && before.hostId != null && state.hostId != null;
    const causes: Cause[] = isNew ? ['appeared'] : hasMoved ? ['moved'] : [];
    if (!isNew && before.powerState !== state.powerState) causes.push('power');
    told.push({
      openedMs: state.atMs,
      closedMs: next?.atMs ?? first.atMs,
      hostId: state.hostId ?? null,
      powerState,
      causes,
      movedFrom: hasMoved ? (before.hostId ?? null) : null,
    });
  }
  return told.filter((one) => one.closedMs > one.openedMs);
}

/** How it stood after each event that changed something. */
function statesOf(events: readonly PastEvent[]): State[] {
  const states: State[] = [];
  for (const event of [...events].sort((a, b) => a.atMs - b.atMs || a.sequence - b.sequence)) {
    const last = states.at(-1);
    const state: State = {
      atMs: event.atMs,
      isThere: event.existence !== 'ended',
      powerState: event.powerState ?? last?.powerState,
      hostId: event.hostId === undefined ? last?.hostId : event.hostId,
    };
    const isSame =
      last !== undefined &&
      last.isThere === state.isThere &&
      last.powerState === state.powerState &&
      // On which host is not told, once more: it may be another one.
      !(event.hostId === null && state.powerState === 'running') &&
      last.hostId === state.hostId;
    if (isSame) continue;
    // Several events of one instant are one change, to how it stood after the last of them.
    if (last?.atMs === state.atMs) states.pop();
    states.push(state);
  }
  return states;
}

/** Before it was switched off it ran, before it was switched on it did not. */
function powerUntil(later: readonly State[]): PowerState | undefined {
  const next = later.find((state) => state.powerState !== undefined)?.powerState;
  return next === undefined ? undefined : next === 'running' ? 'off' : 'running';
}
