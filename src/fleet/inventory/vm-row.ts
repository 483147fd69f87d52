/** What the inventory derives from a VM's facts: owner, words to search for, differences. Pure. */
import type { VmFacts } from '../facts.ts';

/** Longest value kept of a field that changed. */
const KEPT_CHARACTERS = 2_000;

/** The owner a VM's tags name: `owner=` first, then `project=`. */
export function ownerOf(facts: { readonly tags: readonly string[] }): string | null {
  for (const name of ['owner=', 'project=']) {
    const tag = facts.tags.find((one) => one.toLowerCase().startsWith(name));
    if (tag !== undefined && tag.length > name.length) return tag.slice(name.length);
  }
  return null;
}

/** `name=value` as it is, any other tag with an empty value. */
export function tagRecord(tags: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    [...new Set(tags)].sort().map((tag) => {
      const equals = tag.indexOf('=');
      return equals > 0 ? [tag.slice(0, equals), tag.slice(equals + 1)] : [tag, ''];
    }),
  );
}

/** In the order of the columns of vm_search: name, ids, addresses, tags, place. */
export function searchColumns(facts: VmFacts, hostName: string): [string, string, string, string, string] {
  const addresses = facts.nics.flatMap((nic) => [...(nic.mac === null ? [] : [nic.mac]), ...nic.addresses]);
  const place = [hostName, facts.guestOs ?? '', ...facts.nics.map((nic) => nic.network ?? '')];
  return [
    facts.name,
    [...new Set([facts.nativeId, facts.uuid ?? ''])].join(' '),
    addresses.join(' '),
    facts.tags.join(' '),
    place.filter((word) => word !== '').join(' '),
  ];
}

export interface Difference {
  readonly field: string;
  readonly before: string | null;
  readonly after: string | null;
}

const PLAIN_FIELDS = ['name', 'powerState', 'vcpus', 'memoryBytes', 'guestOs', 'firmware', 'tools'] as const;
const WHOLE_FIELDS = ['disks', 'nics', 'tags', 'virtualization'] as const;

export function differences(
  before: VmFacts,
  after: VmFacts,
  hosts: { readonly before: string | null; readonly after: string | null },
): Difference[] {
  const found: Difference[] = [];
  for (const field of PLAIN_FIELDS)
    if (before[field] !== after[field]) found.push({ field, before: plain(before[field]), after: plain(after[field]) });
  if (hosts.before !== hosts.after) found.push({ field: 'host', before: hosts.before, after: hosts.after });
  for (const field of WHOLE_FIELDS) {
    const [was, is] = [settled(before, field), settled(after, field)];
    if (was !== is) found.push({ field, before: was.slice(0, KEPT_CHARACTERS), after: is.slice(0, KEPT_CHARACTERS) });
  }
  return found;
}

/** Disks grow as their VM writes: what they take of their datastore is no change that somebody made. */
function settled(facts: VmFacts, field: (typeof WHOLE_FIELDS)[number]): string {
  if (field !== 'disks') return JSON.stringify(facts[field]);
  return JSON.stringify(facts.disks.map((disk) => ({ ...disk, allocatedBytes: undefined })));
}

function plain(value: string | number | null): string | null {
  return value === null ? null : String(value);
}
