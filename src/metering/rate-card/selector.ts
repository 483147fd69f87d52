/** Which VMs, hosts or times something is for: names with `*`, and tags. Pure. */

/** What a selector looks at. A host is asked with its source and name only. */
export interface Subject {
  readonly source: string;
  readonly host: string;
  readonly vmName?: string;
  readonly project?: string;
  readonly owner?: string;
  readonly tags?: Readonly<Record<string, string>>;
}

export const SELECTOR_NAMES = ['source', 'host', 'name', 'project', 'owner'] as const;
export type SelectorName = (typeof SELECTOR_NAMES)[number];

/** Every condition must hold; of the patterns of one condition, one. An empty selector matches everything. */
export interface Selector {
  readonly names: Readonly<Partial<Record<SelectorName, readonly string[]>>>;
  readonly tags: Readonly<Record<string, readonly string[]>>;
}

export const EVERYTHING: Selector = { names: {}, tags: {} };

export function matches(selector: Selector, subject: Subject): boolean {
  for (const name of SELECTOR_NAMES) {
    const patterns = selector.names[name];
    if (patterns !== undefined && !matchesOne(patterns, subjectValue(subject, name))) return false;
  }
  for (const [key, patterns] of Object.entries(selector.tags)) {
    const tags = subject.tags ?? {};
    if (!matchesOne(patterns, Object.hasOwn(tags, key) ? tags[key] : undefined)) return false;
  }
  return true;
}

export function selectsEverything(selector: Selector): boolean {
  return Object.keys(selector.names).length === 0 && Object.keys(selector.tags).length === 0;
}

/** The same conditions in the same words, whatever their order. */
export function selectorKey(selector: Selector): string {
  const sorted = (record: Readonly<Record<string, readonly string[] | undefined>>): unknown =>
    Object.entries(record)
      .map(([key, patterns]) => [key, [...(patterns ?? [])].sort()] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([sorted(selector.names), sorted(selector.tags)]);
}

function subjectValue(subject: Subject, name: SelectorName): string | undefined {
  return name === 'name' ? subject.vmName : subject[name];
}

function matchesOne(patterns: readonly string[], value: string | undefined): boolean {
  return value !== undefined && patterns.some((pattern) => matchesPattern(pattern, value));
}

/** `*` stands for any characters, none included. Linear: no regular expression that could be made to backtrack. */
export function matchesPattern(pattern: string, value: string): boolean {
  const parts = pattern.split('*');
  const [first = '', ...rest] = parts;
  if (rest.length === 0) return value === pattern;
  if (!value.startsWith(first)) return false;
  const last = rest.pop() ?? '';
  let at = first.length;
  for (const part of rest) {
    const found = value.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return value.length - last.length >= at && value.endsWith(last);
}
