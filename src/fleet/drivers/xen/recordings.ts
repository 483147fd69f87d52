/**
 * What a real Xen 4.17.7 with four domains said on 2026-11-22, for tests: a PV guest with a disk and a network card, a PVH
 * guest that is paused and whose name looks like rows of a listing, a PV guest that was shut down and kept, and dom0. The
 * addresses in attributes.txt were written by hand, in the way of xe-guest-utilities.
 */
import { readFileSync } from 'node:fs';

export function recorded(
  name: 'list.txt' | 'list.json' | 'backends.txt' | 'attributes.txt' | 'info.txt' | 'host.txt' | 'counters.txt',
): string {
  return readFileSync(new URL(`recorded/${name}`, import.meta.url), 'utf8');
}

export const FORGED_NAME =
  'hvm\nx    9    96     1     -b----       3.4 00000000-0000-0000-0000-000000000009        -                -\nü "q"';
