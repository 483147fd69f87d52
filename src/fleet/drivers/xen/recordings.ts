/**
 * What a real Xen 4.17.7 with four domains said on 2026-11-22, for tests: a PV guest with a disk and a network card, a PVH
 * guest that is paused and whose name looks like rows of a listing, a PV guest that was shut down and kept, and dom0. The
 * addresses in attributes.txt were written by hand, in the way of xe-guest-utilities.
 */
import { files } from '#platform';

const NAMES = [
  'list.txt',
  'list.json',
  'backends.txt',
  'attributes.txt',
  'info.txt',
  'host.txt',
  'counters.txt',
] as const;
type Recording = (typeof NAMES)[number];

const folder = new URL('recorded/', import.meta.url).pathname;
const texts = new Map<Recording, string>(
  await Promise.all(
    NAMES.map(async (name) => [name, (await files.readFile(`${folder}${name}`)).toString('utf8')] as const),
  ),
);

export function recorded(name: Recording): string {
  return texts.get(name) ?? '';
}

export const FORGED_NAME =
  'hvm\nx    9    96     1     -b----       3.4 00000000-0000-0000-0000-000000000009        -                -\nü "q"';
