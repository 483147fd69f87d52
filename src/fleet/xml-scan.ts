/**
 * XML read for what is wanted of it: the rest is passed over by looking for its end, unread. Four times as quick as reading all of a
 * vCenter's answers, which are mostly devices of no interest.
 *
 * It reads documents without comments, CDATA and declarations, in which every `<` begins a tag; `parseXml` reads any other. Both give
 * the same tree (property test), except that nothing is said about mistakes in what is passed over.
 */
import {
  MOST_CHARACTERS,
  MOST_DEPTH,
  MOST_ELEMENTS,
  malformed,
  NO_ATTRIBUTES,
  NO_CHILDREN,
  parseXml,
  type XmlElement,
} from './xml.ts';

/** `itself`: its name and attributes, and nothing of what is in it. */
export type Interest = 'all' | 'itself' | 'nothing';

export interface XmlWish {
  /** How much of an element is wanted, asked once for each way a tag is written; without it, all. The root is always read. */
  readonly interest?: (name: string, attributes: Readonly<Record<string, string>>) => Interest;
  /** Elements of this path, from the root on, are handed out as they end, and not kept. */
  readonly handOut?: { readonly path: readonly string[]; readonly take: (element: XmlElement) => void };
}

/** @throws xml.malformed (invalid) saying what is wrong. */
export function scanXml(source: string, wish: XmlWish = {}): XmlElement {
  if (source.length > MOST_CHARACTERS) throw malformed(`it has more than ${MOST_CHARACTERS} characters`);
  const start = PROLOG.exec(source)?.[0].length ?? 0;
  const isPlain = !hasTagWith('!', source, start) && !hasTagWith('?', source, start);
  return isPlain ? new Scanner(source, wish).scan(start) : handedOut(parseXml(source), wish);
}

/** Looks for the rare character, not for the `<` before it, of which there are many. */
function hasTagWith(mark: '!' | '?', source: string, start: number): boolean {
  for (let at = source.indexOf(mark, start); at > 0; at = source.indexOf(mark, at + 1))
    if (source.charCodeAt(at - 1) === LESS) return true;
  return false;
}

const [LESS, GREATER, SLASH, SPACE] = [0x3c, 0x3e, 0x2f, 0x20];
const PROLOG = /^\ufeff?(<\?xml\s[^>]*\?>)?/;
const ATTRIBUTE = /\s+([^\s=<>"'/]+)\s*=\s*(?:"([^"<]*)"|'([^'<]*)')/y;
const TAG_END = /\s*(\/?)>/y;
const NAME = /^[^\s=<>"'/&!?]+$/;
/** What text may not hold as it is, or stands for something else. */
const SPECIAL = /[&\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/;
const FORBIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/;
const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };
/** Tags repeat themselves: those that were met are not read again. More than that of them is no such document. */
const MOST_KNOWN_TAGS = 4_096;
/** Tags of one element that are kept for the next of its kind: a VM with a hundred devices has some thousands. */
const MOST_TRACED = 8_192;
/** Tags that an element may leave out, one after another, and still be like the one before. */
const MOST_LEFT_OUT = 256;

/** A start tag, read. */
interface Tag {
  /** Behind its `<`, to the `>`. */
  readonly source: string;
  readonly rawName: string;
  /** What ends it, behind the `<`, if it is written without blanks. */
  readonly closing: string;
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly isEmpty: boolean;
  readonly interest: Interest;
}

interface Open {
  readonly tag: Tag;
  children: XmlElement[] | undefined;
  text: string;
}

/**
 * The tags of an element that was handed out, in their order, and the texts of those that have nothing but text. The next one of its
 * kind mostly has the same: what is as it was there needs no reading, and equal texts are one.
 */
class Trace {
  readonly tags: Tag[] = [];
  readonly texts: string[] = [];
  /** How many of them are of this element: what stands behind is of one before. */
  count = 0;
}

class Scanner {
  readonly #source: string;
  readonly #wish: XmlWish;
  readonly #known = new Map<string, Tag>();
  readonly #open: Open[] = [];
  #root: XmlElement | undefined;
  #count = 0;
  #at = 0;
  #before = new Trace();
  /** The tag of it that is expected next. */
  #expected = 0;
  #trace = new Trace();

  constructor(source: string, wish: XmlWish) {
    this.#source = source;
    this.#wish = wish;
  }

  scan(start: number): XmlElement {
    this.#at = start;
    while (this.#step());
    if (this.#open.length > 0) throw malformed(`<${this.#open.at(-1)?.tag.rawName}> is not closed`);
    if (this.#root === undefined) throw malformed('it holds no element');
    return this.#root;
  }

  /** The next tag, and the text before it. @returns whether there was one */
  #step(): boolean {
    const tagAt = this.#source.charCodeAt(this.#at) === LESS ? this.#at : this.#textUntilTag();
    if (tagAt < 0) return false;
    if (this.#source.charCodeAt(tagAt + 1) === SLASH) this.#close(tagAt);
    else this.#begin(tagAt);
    return true;
  }

  /** @returns where the next tag begins; less than 0 at the end. */
  #textUntilTag(): number {
    const tagAt = this.#source.indexOf('<', this.#at);
    const text = this.#source.slice(this.#at, tagAt < 0 ? this.#source.length : tagAt);
    const current = this.#open.at(-1);
    if (current !== undefined) current.text += plainText(text);
    else if (text.trim() !== '') throw malformed('there is text outside of its root');
    return tagAt;
  }

  #begin(tagAt: number): void {
    const tag = this.#tagAt(tagAt);
    const depth = this.#open.length;
    this.#count += 1;
    if (depth === 0 && this.#root !== undefined) throw malformed('it has more than one root');
    if (depth >= MOST_DEPTH) throw malformed(`it nests deeper than ${MOST_DEPTH}`);
    if (this.#count > MOST_ELEMENTS) throw malformed(`it has more than ${MOST_ELEMENTS} elements`);
    const { name, attributes } = tag;
    const interest = depth === 0 ? 'all' : tag.interest;
    if (interest !== 'all') {
      if (!tag.isEmpty) this.#at = this.#endOf(tag);
      if (interest === 'itself') this.#keep({ name, attributes, children: NO_CHILDREN, text: '' });
    } else if (tag.isEmpty) this.#keep({ name, attributes, children: NO_CHILDREN, text: '' });
    else if (!this.#leaf(tag)) this.#open.push({ tag, children: undefined, text: '' });
  }

  /** An element that has nothing but text, to its end. @returns whether it is one. */
  #leaf(tag: Tag): boolean {
    const source = this.#source;
    const from = this.#at;
    const end = source.indexOf('<', from);
    if (end < 0 || source.slice(end + 1, end + 1 + tag.closing.length) !== tag.closing) return false;
    const before = this.#before.texts[this.#expected - 1];
    const raw = source.slice(from, end);
    const text = raw === before ? before : plainText(raw).trim();
    // Only what stands for itself may be found again by looking alike.
    const last = this.#trace.count - 1;
    if (text === raw && this.#trace.tags[last] === tag) this.#trace.texts[last] = text;
    this.#at = end + 1 + tag.closing.length;
    this.#keep({ name: tag.name, attributes: tag.attributes, children: NO_CHILDREN, text });
    return true;
  }

  #close(tagAt: number): void {
    const closed = this.#open.pop();
    if (closed === undefined) throw malformed('more is closed than was opened');
    const { tag, children = NO_CHILDREN, text } = closed;
    const end = tagAt + 1 + tag.closing.length;
    TAG_END.lastIndex = end - 1;
    if (this.#source.slice(tagAt + 1, end) === tag.closing) this.#at = end;
    else if (this.#source.startsWith(tag.rawName, tagAt + 2) && TAG_END.exec(this.#source)?.[1] === '')
      this.#at = TAG_END.lastIndex;
    else throw malformed(`<${tag.rawName}> is closed by </${this.#source.slice(tagAt + 2, tagAt + 42)}`);
    this.#keep({ name: tag.name, attributes: tag.attributes, children, text: text.trim() });
  }

  #keep(element: XmlElement): void {
    const { handOut } = this.#wish;
    const parent = this.#open.at(-1);
    if (
      handOut !== undefined &&
      this.#open.length + 1 === handOut.path.length &&
      element.name === handOut.path.at(-1)
    ) {
      if (this.#open.every(({ tag }, at) => tag.name === handOut.path[at])) {
        handOut.take(element);
        // The older one is written over: its lists have grown already.
        [this.#before, this.#trace] = [this.#trace, this.#before];
        this.#trace.count = 0;
        this.#expected = 0;
        return;
      }
    }
    if (parent === undefined) this.#root = element;
    else if (parent.children === undefined) parent.children = [element];
    else parent.children.push(element);
  }

  /** The start tag that begins here; goes on behind it. */
  #tagAt(tagAt: number): Tag {
    const before = this.#before;
    const expected = this.#expected < before.count ? before.tags[this.#expected] : undefined;
    const end = tagAt + 1 + (expected?.source.length ?? 0);
    if (expected !== undefined && this.#source.slice(tagAt + 1, end) === expected.source) {
      this.#expected += 1;
      this.#at = end;
      this.#note(expected);
      return expected;
    }
    const tag = this.#otherTagAt(tagAt);
    // Not in all of it: an element that is nothing like the one before would be compared with that at each of its tags.
    const last = Math.min(this.#expected + MOST_LEFT_OUT, before.count);
    for (let place = this.#expected; place < last; place += 1) {
      if (before.tags[place] !== tag) continue;
      this.#expected = place + 1;
      break;
    }
    this.#note(tag);
    return tag;
  }

  #note(tag: Tag): void {
    const trace = this.#trace;
    if (this.#wish.handOut === undefined || trace.count >= MOST_TRACED) return;
    trace.tags[trace.count] = tag;
    trace.texts[trace.count] = '';
    trace.count += 1;
  }

  #otherTagAt(tagAt: number): Tag {
    const source = this.#source;
    const end = source.indexOf('>', tagAt) + 1;
    if (end === 0) throw malformed('a tag does not end');
    const text = source.slice(tagAt + 1, end);
    const known = this.#known.get(text);
    if (known === undefined) return this.#readTag(tagAt, text);
    this.#at = end;
    return known;
  }

  /** @param text - until the first `>`. */
  #readTag(tagAt: number, text: string): Tag {
    const source = this.#source;
    const end = tagAt + 1 + text.length;
    let from = tagAt + 1;
    while (from < end && !isNameEnd(source.charCodeAt(from))) from += 1;
    const rawName = source.slice(tagAt + 1, from);
    if (!NAME.test(rawName)) throw malformed(`<${source.slice(tagAt + 1, tagAt + 41)} is no tag`);
    let attributes: Record<string, string> | undefined;
    for (;;) {
      ATTRIBUTE.lastIndex = from;
      const found = ATTRIBUTE.exec(source);
      if (found === null) break;
      attributes ??= Object.create(null) as Record<string, string>;
      attributes[localName(found[1] ?? '')] = internalized(
        plainText((found[2] ?? found[3] ?? '').replace(/[\t\n\r]/g, ' ')),
      );
      from = ATTRIBUTE.lastIndex;
    }
    TAG_END.lastIndex = from;
    const last = TAG_END.exec(source);
    if (last === null) throw malformed(`the attributes of <${rawName}> cannot be read`);
    this.#at = TAG_END.lastIndex;
    const name = internalized(localName(rawName));
    const tag: Tag = {
      source: flat(source.slice(tagAt + 1, this.#at)),
      rawName,
      closing: flat(`/${rawName}>`),
      name,
      attributes: attributes ?? NO_ATTRIBUTES,
      isEmpty: last[1] === '/',
      interest: this.#wish.interest?.(name, attributes ?? NO_ATTRIBUTES) ?? 'all',
    };
    // A `>` may stand in an attribute: such a tag is read each time.
    if (this.#at === end && this.#known.size < MOST_KNOWN_TAGS) this.#known.set(text, tag);
    return tag;
  }

  /**
   * Behind the end of an element whose start tag was just read: elements of its name may be in it. Looks for the name, which is
   * rarer than a `<`.
   */
  #endOf({ rawName }: Tag): number {
    const source = this.#source;
    for (let [depth, at] = [1, this.#at]; ; ) {
      const found = source.indexOf(rawName, at);
      if (found < 0) throw malformed(`<${rawName}> is not closed`);
      at = found + rawName.length;
      if (!isNameEnd(source.charCodeAt(at))) continue;
      const before = source.charCodeAt(found - 1);
      if (before === LESS) {
        if (!this.#tagAt(found - 1).isEmpty) depth += 1;
        at = this.#at;
      } else if (before === SLASH && source.charCodeAt(found - 2) === LESS) {
        depth -= 1;
        at = source.indexOf('>', at) + 1;
        if (at === 0) throw malformed('a tag does not end');
        if (depth === 0) return at;
      }
    }
  }
}

/** Of its own and in one piece: that is compared faster than a part of a page. */
function flat(text: string): string {
  return JSON.parse(JSON.stringify(text)) as string;
}

/** The one text of its kind that V8 has for names of properties: it is like one in the program by being the same. */
function internalized(text: string): string {
  return Object.keys({ [text]: true })[0] ?? text;
}

function isNameEnd(code: number): boolean {
  return code <= SPACE || code === GREATER || code === SLASH || Number.isNaN(code);
}

function plainText(text: string): string {
  if (!SPECIAL.test(text)) return text.includes('\r') ? text.replace(/\r\n?/g, '\n') : text;
  if (FORBIDDEN.test(text)) throw malformed('it holds characters that XML does not have');
  return text.replace(/\r\n?/g, '\n').replace(/&([^;]*);?/g, (all, name: string) => {
    const meant = all.endsWith(';') ? (ENTITIES[name] ?? characterOf(name)) : undefined;
    if (meant === undefined) throw malformed(`the entity ${all.slice(0, 20)} is not known`);
    return meant;
  });
}

function characterOf(name: string): string | undefined {
  const [, hex, decimal] = /^#(?:x([0-9a-fA-F]{1,6})|([0-9]{1,7}))$/.exec(name) ?? [];
  const code = hex === undefined ? Number.parseInt(decimal ?? '', 10) : Number.parseInt(hex, 16);
  if (!(code > 0 && code <= 0x10ffff) || (code >= 0xd800 && code <= 0xdfff)) return undefined;
  const character = String.fromCodePoint(code);
  return FORBIDDEN.test(character) ? undefined : character;
}

function localName(name: string): string {
  return name.slice(name.indexOf(':') + 1);
}

/** The same from a tree that is whole. */
function handedOut(root: XmlElement, { interest, handOut }: XmlWish): XmlElement {
  const path = handOut?.path ?? [];
  const pruned = (element: XmlElement, depth: number, isOnPath: boolean): XmlElement => {
    const children: XmlElement[] = [];
    for (const child of element.children) {
      const wanted = interest?.(child.name, child.attributes) ?? 'all';
      if (wanted === 'nothing') continue;
      const isNext = isOnPath && path[depth] === child.name;
      const kept = wanted === 'all' ? pruned(child, depth + 1, isNext) : { ...child, children: NO_CHILDREN, text: '' };
      if (handOut !== undefined && isNext && depth + 1 === path.length) handOut.take(kept);
      else children.push(kept);
    }
    return { ...element, children };
  };
  return pruned(root, 1, path[0] === root.name);
}
