/**
 * Reads YAML by hand from its syntax tree, so that every problem has a line and a column and every scalar is the text
 * that was written: `price: 0.10` never becomes a float. Collects all problems instead of stopping at the first.
 */
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import { Exact } from '../exact.ts';

export interface CardProblem {
  /** From 1, as editors count. */
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

/** A place in the file, with what is there. */
export type Place = Node | null | undefined;

/** A rate card is read by people; more than this is something else. */
const MOST_CHARACTERS = 1024 * 1024;

export class YamlReader {
  readonly root: Place;
  readonly #problems: CardProblem[] = [];
  readonly #lines = new LineCounter();

  constructor(text: string) {
    if (text.length > MOST_CHARACTERS) {
      this.#problems.push({
        line: 1,
        column: 1,
        message: `the file has ${text.length} characters; at most ${MOST_CHARACTERS} are read`,
      });
      this.root = null;
      return;
    }
    // Failsafe: scalars stay text. Duplicate keys are errors of the parser.
    const document = parseDocument(text, { schema: 'failsafe', lineCounter: this.#lines, prettyErrors: false });
    for (const { pos, message } of [...document.errors, ...document.warnings])
      this.#problems.push({ ...this.#position(pos[0]), message: lowerFirst(message) });
    this.root = document.contents;
  }

  /** In the order of the file. */
  get problems(): readonly CardProblem[] {
    return [...this.#problems].sort((a, b) => a.line - b.line || a.column - b.column);
  }

  problem(place: Place, message: string): void {
    this.#problems.push({ ...this.#position(place?.range?.[0] ?? 0), message });
  }

  /** Where something is, for messages that name a second place. */
  lineOf(place: Place): number {
    return this.#position(place?.range?.[0] ?? 0).line;
  }

  /** The values of a mapping by key; keys that are not in `known` are problems. */
  map(place: Place, what: string, known: readonly string[]): Fields {
    const fields = this.openMap(place, what);
    for (const [key, { keyPlace }] of fields.entries())
      if (!known.includes(key))
        this.problem(keyPlace, `${what} has no key ${quote(key)}; known are ${known.join(', ')}`);
    return fields;
  }

  /** A mapping with any keys. */
  openMap(place: Place, what: string): Fields {
    const found = new Map<string, { keyPlace: Place; value: Place }>();
    if (!isMap(place)) {
      this.problem(place, `${what} must be a mapping (key: value)`);
      return new Fields(place, found);
    }
    for (const pair of place.items) {
      const { key, value } = pair;
      if (!isScalar(key) || typeof key.value !== 'string') this.problem(place, `${what} has a key that is no text`);
      else found.set(key.value, { keyPlace: key, value: (value as Place) ?? null });
    }
    return new Fields(place, found);
  }

  list(place: Place, what: string): readonly Place[] {
    if (place === undefined) return [];
    if (isSeq(place)) return place.items as readonly Place[];
    this.problem(place, `${what} must be a list (- ...)`);
    return [];
  }

  text(place: Place, what: string): string | undefined {
    if (isAlias(place)) this.problem(place, `${what} is an alias (*name); write the value out`);
    else if (!isScalar(place) || typeof place.value !== 'string' || place.value === '')
      this.problem(place, `${what} must be a text`);
    else return place.value;
    return undefined;
  }

  /** One text or a list of them. */
  texts(place: Place, what: string): readonly string[] {
    const places = isSeq(place) ? this.list(place, what) : [place];
    if (isSeq(place) && places.length === 0) this.problem(place, `${what} is an empty list: nothing could match it`);
    return places.flatMap((one) => this.text(one, what) ?? []);
  }

  choice<T extends string>(place: Place, what: string, choices: readonly T[]): T | undefined {
    const text = this.text(place, what);
    if (text === undefined) return undefined;
    const found = choices.find((choice) => choice === text);
    if (found === undefined) this.problem(place, `${what} is ${quote(text)}; it can be ${choices.join(', ')}`);
    return found;
  }

  /** Not negative. */
  decimal(place: Place, what: string): Exact | undefined {
    const text = this.text(place, what);
    if (text === undefined) return undefined;
    const value = Exact.parse(text);
    if (value === undefined) this.problem(place, `${what} is ${quote(text)}; a plain decimal such as 0.012 is wanted`);
    else if (value.isNegative) this.problem(place, `${what} is ${text}; it cannot be negative`);
    else return value;
    return undefined;
  }

  /** `19%` → 0.19. */
  percent(place: Place, what: string): Exact | undefined {
    const text = this.text(place, what);
    if (text === undefined) return undefined;
    const value = text.endsWith('%') ? Exact.parse(text.slice(0, -1).trim()) : undefined;
    if (value === undefined || value.isNegative)
      this.problem(place, `${what} is ${quote(text)}; a percentage such as 19% is wanted`);
    else return value.over(Exact.of(100));
    return undefined;
  }

  wholeNumber(place: Place, what: string, most: number): number | undefined {
    const text = this.text(place, what);
    if (text === undefined) return undefined;
    if (/^\d{1,9}$/.test(text) && Number(text) <= most) return Number(text);
    this.problem(place, `${what} is ${quote(text)}; a whole number from 0 to ${most} is wanted`);
    return undefined;
  }

  /** `2026-01-31` or `2026-01-31T09:30:00Z`, UTC. */
  time(place: Place, what: string): number | undefined {
    const text = this.text(place, what);
    if (text === undefined) return undefined;
    const whole = /^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00:00Z` : text;
    const ms = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$/.test(whole) ? Date.parse(whole) : Number.NaN;
    // Date.parse takes the 31st of February for the 3rd of March.
    if (!Number.isNaN(ms) && new Date(ms).toISOString().slice(0, 19) === whole.slice(0, 19)) return ms;
    this.problem(place, `${what} is ${quote(text)}; a UTC time such as 2026-01-31 or 2026-01-31T09:30:00Z is wanted`);
    return undefined;
  }

  #position(offset: number): { line: number; column: number } {
    const { line, col } = this.#lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  }
}

/** The fields of one mapping. */
export class Fields {
  readonly place: Place;
  readonly #found: ReadonlyMap<string, { readonly keyPlace: Place; readonly value: Place }>;

  constructor(place: Place, found: ReadonlyMap<string, { readonly keyPlace: Place; readonly value: Place }>) {
    this.place = place;
    this.#found = found;
  }

  entries(): readonly (readonly [string, { readonly keyPlace: Place; readonly value: Place }])[] {
    return [...this.#found];
  }

  /** undefined when the key is not there, null when nothing follows it. */
  get(key: string): Place {
    return this.#found.has(key) ? (this.#found.get(key)?.value ?? null) : undefined;
  }
}

export function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}

function lowerFirst(text: string): string {
  return text.slice(0, 1).toLowerCase() + text.slice(1);
}
