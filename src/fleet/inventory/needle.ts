/**
 * Which pieces of a text to ask the trigram index for. Pure.
 *
 * The index has a list of VMs for each three letters. Asked for a text, it goes along the lists of all its threes at once and leaps
 * to where the rarest goes on: quick when one of them is rare. When nearly every VM has each (`00:`, `10.`, zeros of UUIDs), it
 * reads all lists from end to end. A piece that is rare although its threes are not finds nearly the same VMs with few of the
 * lists; what it finds too much is told apart by the VM's own text. A sample of VMs tells what is rare.
 */

/** Letters of one list. */
const TOKEN = 3;
/** Texts up to this long are asked for as they are. */
const SHORT = 6;
/** A piece may be in so many times more VMs of the sample than the whole text. */
const LOOSE = 1.25;
/** Visible characters of ASCII: only of these is it certain here how the index compares them; see `foldedLikeIndex`. */
const PLAIN = /^[ -~]+$/;

export interface Sample {
  /** What is searched of some VMs, `foldedLikeIndex`. */
  readonly texts: readonly string[];
  /** How many VMs they stand for. */
  readonly vms: number;
}

/** Whether `ladderOf` could do better than the text itself. */
export function isWorthSampling(text: string): boolean {
  return text.length > SHORT && PLAIN.test(text);
}

/**
 * Capitals made small the way FTS5's trigram tokenizer does it, as far as a text of ASCII can tell: the sign of Kelvin and the long
 * s are the two letters beyond ASCII that it takes for one within.
 *
 * @source measured against SQLite 3.53; needle.test.ts measures it again.
 */
export function foldedLikeIndex(text: string): string {
  return text.replace(/[A-Z\u212a\u017f]/g, (letter) => FOLDED[letter] ?? letter.toLowerCase());
}

const FOLDED: Readonly<Record<string, string>> = { '\u212a': 'k', '\u017f': 's' };

/**
 * Texts to ask the index for, one after another: each is part of the next, the last is the whole. Every VM that has the whole has
 * all of them, so that whoever finds too much at one step goes on with the next where it stopped.
 *
 * @param asked - `wanted`: VMs after which nobody asks further; `quickEntries`: entries of lists for which the text is asked as it is.
 */
export function ladderOf(
  text: string,
  sample: Sample,
  asked: { readonly wanted: number; readonly quickEntries: number },
): readonly string[] {
  if (!isWorthSampling(text)) return [text];
  const whole = foldedLikeIndex(text);
  const lists = listsOf(whole, sample.texts);
  const having = sample.texts.filter((one) => one.includes(whole)).length;
  if (entriesRead(lists, having, { ...sample, wanted: asked.wanted }) <= asked.quickEntries) return [text];
  const most = Math.floor(having * LOOSE);
  let best: Span = { from: 0, to: whole.length };
  for (const span of shortestSpans(whole, (piece) => isInAtMost(piece, sample.texts, most)))
    if (weightOf(span, lists) < weightOf(best, lists)) best = span;
  const ladder: string[] = [];
  for (let span: Span | undefined = best; span !== undefined; span = widened(span, lists))
    ladder.push(text.slice(span.from, span.to));
  return ladder;
}

/** The list of three letters, as the sample shows it. */
interface List {
  readonly vms: number;
  /** How often they stand in these VMs' texts. */
  readonly places: number;
}

interface Span {
  readonly from: number;
  /** The place after its last character. */
  readonly to: number;
}

/** All lists are read as far as the shortest makes them, or until enough is found. */
function entriesRead(lists: readonly List[], having: number, of: Sample & { readonly wanted: number }): number {
  const size = of.texts.length + 1;
  const shortest = Math.min(...lists.map((list) => list.vms)) / size;
  return lists.length * Math.min(shortest * of.vms, having === 0 ? of.vms : (of.wanted * size) / having);
}

/** For each end the shortest piece that is rare enough: one that holds a rare piece is as rare, so the beginning only moves on. */
function* shortestSpans(whole: string, isRare: (piece: string) => boolean): Generator<Span> {
  let from = 0;
  for (let to = TOKEN; to <= whole.length; to += 1) {
    if (!isRare(whole.slice(from, to))) continue;
    while (to - from > TOKEN && isRare(whole.slice(from + 1, to))) from += 1;
    yield { from, to };
  }
}

/** The next step: as many lists again, on the side where they are shorter. */
function widened(span: Span, lists: readonly List[]): Span | undefined {
  const end = lists.length + TOKEN - 1;
  let { from, to } = span;
  if (from === 0 && to === end) return undefined;
  for (let more = to - from - TOKEN + 1; more > 0 && (from > 0 || to < end); more -= 1) {
    const before = lists[from - 1];
    const behind = lists[to - TOKEN + 1];
    if (before !== undefined && (behind === undefined || weightOfList(before) < weightOfList(behind))) from -= 1;
    else to += 1;
  }
  return { from, to };
}

function listsOf(whole: string, texts: readonly string[]): readonly List[] {
  const known = new Map<string, List>();
  return Array.from({ length: whole.length - TOKEN + 1 }, (_, at) => {
    const token = whole.slice(at, at + TOKEN);
    const list = known.get(token) ?? listOf(token, texts);
    known.set(token, list);
    return list;
  });
}

function listOf(token: string, texts: readonly string[]): List {
  const places = texts.map((text) => text.split(token).length - 1);
  return { vms: places.filter((count) => count > 0).length, places: places.reduce((sum, count) => sum + count, 0) };
}

/** What reading a piece's lists costs, beside others'. */
function weightOf({ from, to }: Span, lists: readonly List[]): number {
  return lists.slice(from, to - TOKEN + 1).reduce((sum, list) => sum + weightOfList(list), 0);
}

/** Opening it, its entries, and the places that they hold. */
function weightOfList({ vms, places }: List): number {
  return 1 + vms + places;
}

function isInAtMost(piece: string, texts: readonly string[], most: number): boolean {
  let found = 0;
  for (const text of texts) {
    if (!text.includes(piece)) continue;
    found += 1;
    if (found > most) return false;
  }
  return true;
}
