/** How the daemon is run: with the same words whoever starts it. */
import type { Installation } from './paths.ts';

/**
 * MiB that V8 lets grow old, with what hangs on it outside of V8, before it looks through everything for the first time.
 *
 * Left to itself it looks at some 15, and soon again: four times in a first look at 10,000 VMs, whose pages come and go outside of
 * V8. That was 0.1 s of processor out of 1.2; with 64 nearly as much. It is a limit, not memory taken. 2026-11-22.
 */
const OLD_SPACE_MIB = 128;

/** Node's own words for it; packaging/berth.service has them as well. */
const NODE_FLAGS = [`--initial-old-space-size=${OLD_SPACE_MIB}`];

/** @param words - for the daemon itself. */
export function daemonCommand(
  { daemon }: Pick<Installation, 'daemon'>,
  words: readonly string[],
): [string, ...string[]] {
  return [process.execPath, ...NODE_FLAGS, daemon, ...words];
}
