import { setTimeout as delay } from 'node:timers/promises';

/** Wall-clock milliseconds since the epoch. Pure code takes the time as an argument instead. */
export function nowMs(): number {
  return Date.now();
}

/** Milliseconds of a clock that never goes back, for durations. */
export function monotonicMs(): number {
  return performance.now();
}

/** Node's timers fire at once beyond this (24 days): a longer wait is as good as this one. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Waits `ms`; rejects with the signal's reason when it fires first. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  await delay(Math.min(ms, LONGEST_TIMER_MS), undefined, signal === undefined ? {} : { signal });
}

/** A running timer: `cancel` is safe to call at any time. `unref` timers do not keep the process alive. */
export interface Timer {
  cancel(): void;
}

export function startTimer(ms: number, onFire: () => void): Timer {
  const timer = setTimeout(onFire, Math.min(ms, LONGEST_TIMER_MS));
  return { cancel: () => clearTimeout(timer) };
}
