/**
 * What dockerd and podman leave in the host's packet filter, as the difference between two listings. Only rules and chains that
 * are theirs by name are taken back: whatever else came meanwhile belongs to somebody else. Pure.
 */

export interface Listing {
  readonly table: 'filter' | 'nat';
  /** Lines of `iptables -t TABLE -S`. */
  readonly lines: readonly string[];
}

/** Chains and bridges of dockerd, and of podman with CNI or netavark. */
const THEIRS = /(^|\s)(docker0|cni-podman0|podman0|(DOCKER|CNI|NETAVARK)(-[\w-]+)?)(\s|$)/;

/** Argument lists of iptables, in the order they have to be run: rules, then chains, then policies. */
export function iptablesUndo(before: readonly Listing[], after: readonly Listing[]): string[][] {
  const rules: string[][] = [];
  const flushes: string[][] = [];
  const chains: string[][] = [];
  const policies: string[][] = [];
  for (const { table, lines } of after) {
    const known = new Set(before.find((one) => one.table === table)?.lines ?? []);
    const isNewAndTheirs = (line: string): boolean => !known.has(line) && THEIRS.test(line);
    for (const line of lines) {
      const [kind = '', ...words] = wordsOf(line);
      if (kind === '-A' && isNewAndTheirs(line)) rules.push(['-t', table, '-D', ...words]);
      if (kind === '-N' && isNewAndTheirs(line)) {
        flushes.push(['-t', table, '-F', ...words]);
        chains.push(['-t', table, '-X', ...words]);
      }
    }
    const forward = [...known].find((line) => line.startsWith('-P FORWARD '));
    if (forward !== undefined && !lines.includes(forward)) policies.push(['-t', table, ...wordsOf(forward)]);
  }
  return [...rules, ...flushes, ...chains, ...policies];
}

/** The words of a rule as iptables lists it: comments are in quotes. */
function wordsOf(line: string): string[] {
  return [...line.matchAll(/"((?:[^"\\]|\\.)*)"|\S+/g)].map(
    ([word, quoted]) => quoted?.replaceAll(/\\(.)/g, '$1') ?? word,
  );
}
