/**
 * What dockerd leaves in the host's packet filter, as the difference between two listings. Only rules and chains that
 * are Docker's by name are taken back: whatever else came meanwhile belongs to somebody else. Pure.
 */

export interface Listing {
  readonly table: 'filter' | 'nat';
  /** Lines of `iptables -t TABLE -S`. */
  readonly lines: readonly string[];
}

/** Argument lists of iptables, in the order they have to be run: rules, then chains, then policies. */
export function iptablesUndo(before: readonly Listing[], after: readonly Listing[], subnet: string): string[][] {
  const rules: string[][] = [];
  const flushes: string[][] = [];
  const chains: string[][] = [];
  const policies: string[][] = [];
  for (const { table, lines } of after) {
    const known = new Set(before.find((one) => one.table === table)?.lines ?? []);
    const isNewAndDockers = (line: string): boolean =>
      !known.has(line) && (/\bdocker0\b|\bDOCKER(-[A-Z0-9-]+)?\b/.test(line) || line.includes(subnet));
    for (const line of lines) {
      const [kind = '', ...words] = line.split(' ');
      if (kind === '-A' && isNewAndDockers(line)) rules.push(['-t', table, '-D', ...words]);
      if (kind === '-N' && isNewAndDockers(line)) {
        flushes.push(['-t', table, '-F', ...words]);
        chains.push(['-t', table, '-X', ...words]);
      }
    }
    const forward = [...known].find((line) => line.startsWith('-P FORWARD '));
    if (forward !== undefined && !lines.includes(forward)) policies.push(['-t', table, ...forward.split(' ')]);
  }
  return [...rules, ...flushes, ...chains, ...policies];
}
