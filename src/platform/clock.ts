import { setTimeout as delay } from 'node:timers/promises';

/** Wall-clock milliseconds since the epoch. Pure code takes the time as an argument instead. */
export function nowMs(): number {
  return Date.now();
}

/** Milliseconds of a clock that never goes back, for durations. */
export function monotonicMs(): number {
  return performance.now();
}

/** Waits `ms`; rejects with the signal's reason when it fires first. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  await delay(ms, undefined, signal === undefined ? {} : { signal });
}

/** A running timer: `cancel` is safe to call at any time. `unref` timers do not keep the process alive. */
export interface Timer {
  cancel(): void;
}

export function startTimer(ms: number, onFire: () => void): Timer {
  const timer = setTimeout(onFire, ms);
  return { cancel: () => clearTimeout(timer) };
}
