import assert from 'node:assert/strict';
import { test } from 'node:test';
import { childrenNamed, parseXml, textAt, type XmlElement } from './xml.ts';
import { type Interest, scanXml } from './xml-scan.ts';

const NAMES = ['a', 'b', 'aa', 'n:a', 'm:b', 'a-b'] as const;
const TEXTS = [
  '',
  '',
  'x',
  ' one ',
  '\n',
  'é',
  "a'b",
  '>',
  '[',
  '&lt;',
  '&amp;',
  '&amp;lt;',
  '&quot;',
  '&#65;',
  '&#x1F600;',
] as const;
const QUOTED = ['', 'v', ' a  b ', '\t', '>', '&gt;', '&apos;', 'é/'] as const;
const BLANKS = ['', '', ' ', '\n\t'] as const;

interface Chance {
  upTo(limit: number): number;
  pick<T>(from: readonly [T, ...T[]]): T;
}

/** The same on every run. */
function chanceFrom(seed: number): Chance {
  let state = seed + 1;
  const upTo = (limit: number): number => {
    state = (state * 48_271) % 0x7fffffff;
    return state % limit;
  };
  return { upTo, pick: (from) => from[upTo(from.length)] ?? from[0] };
}

function someElement(chance: Chance, depth: number): string {
  const [name, gap] = [chance.pick(NAMES), chance.pick(BLANKS)];
  const attributes = ['t', 'u:v', 'w'].filter(() => chance.upTo(3) === 0);
  const head = attributes.map((key) => {
    const quote = chance.pick(['"', "'"]);
    return ` ${chance.pick(BLANKS)}${key}${chance.pick(BLANKS)}=${quote}${chance.pick(QUOTED)}${quote}`;
  });
  const parts = Array.from({ length: chance.upTo(5) }, () =>
    depth > 0 && chance.upTo(2) === 0 ? someElement(chance, depth - 1) : chance.pick(TEXTS),
  );
  const start = `<${name}${head.join('')}${gap}`;
  return parts.length === 0 ? `${start}/>` : `${start}>${parts.join('')}</${name}${gap}>`;
}

test('it reads what the other reader reads, as it does', () => {
  for (let seed = 0; seed < 3_000; seed++) {
    const chance = chanceFrom(seed);
    const prolog = chance.pick(['', '<?xml version="1.0"?>\n', '\ufeff', '\ufeff<?xml version="1.0"?>']);
    const whole = `${prolog}${someElement(chance, 5)}${chance.pick(BLANKS)}`;
    assert.deepEqual(scanXml(whole), parseXml(whole), whole);
  }
});

test('what is not wanted is not there, and all else is, whatever lies in it', () => {
  for (let seed = 0; seed < 3_000; seed++) {
    const chance = chanceFrom(seed);
    const source = someElement(chance, 6);
    const much = (): Interest => chance.pick(['all', 'all', 'itself', 'nothing']);
    const wanted: Record<string, Interest> = { a: much(), b: much(), aa: much(), 'a-b': much() };
    const found = scanXml(source, { interest: (one) => wanted[one] ?? 'all' });
    assert.deepEqual(found, pruned(parseXml(source), wanted), source);
  }
});

test('elements of a path are handed out as they end and not kept, those of that name elsewhere are', () => {
  const source =
    '<a><x:b><c>1<e><c>no</c></e></c><n:c><d>2</d><c>3</c></n:c></x:b><f><c>4</c></f><b/><c>5</c><b><c>6</c></b></a>';
  for (const text of [source, source.replace('<f>', '<!-- read by the other reader --><f>')]) {
    const taken: (string | undefined)[] = [];
    const handOut = {
      path: ['a', 'b', 'c'],
      take: (one: XmlElement) => void taken.push(textAt(one, 'd') ?? one.text),
    };
    const root = scanXml(text, { handOut, interest: (one) => (one === 'e' ? 'nothing' : 'all') });
    assert.deepEqual(taken, ['1', '2', '6']);
    assert.deepEqual(
      [textAt(root, 'f', 'c'), textAt(root, 'c'), childrenNamed(root, 'b').flatMap((one) => one.children)],
      ['4', '5', []],
    );
  }
});

test('one of many that are alike, longer or shorter than the one before or something else, is read as if it stood alone', () => {
  for (let seed = 0; seed < 1_000; seed++) {
    const chance = chanceFrom(seed);
    const parts = Array.from({ length: 12 }, () => someElement(chance, 2));
    const another = (): string => parts.filter(() => chance.upTo(4) > 0).join('');
    const objects = Array.from({ length: 8 }, () => {
      const at = chance.upTo(parts.length);
      parts[at] = chance.upTo(2) === 0 ? someElement(chance, 2) : `<leaf>${chance.pick(TEXTS)}</leaf>`;
      return `<o>${chance.upTo(6) === 0 ? '' : another()}</o>`;
    });
    const wanted: Record<string, Interest> = { b: chance.pick(['all', 'itself', 'nothing']) };
    const taken: XmlElement[] = [];
    const handOut = { path: ['r', 'o'], take: (one: XmlElement) => void taken.push(one) };
    scanXml(`<r>${objects.join('')}</r>`, { handOut, interest: (one) => wanted[one] ?? 'all' });
    assert.deepEqual(
      taken,
      objects.map((object) => pruned(parseXml(object), wanted)),
      `seed ${seed}`,
    );
  }
});

test('what is cut short, crossed, endless or no XML is refused in words', () => {
  const whole = '<x k="1"><y a=\'b\'>t</y><z/></x>';
  for (let end = 0; end < whole.length; end++)
    assert.throws(() => scanXml(whole.slice(0, end)), { code: 'xml.malformed' }, whole.slice(0, end));
  for (const text of [
    '<x></y>',
    '<x><y></x></y>',
    '<x/><y/>',
    'text',
    '<x/>text',
    '<x>&unknown;</x>',
    '<x>& </x>',
    '<x>&#0;</x>',
    '<x>&#xd800;</x>',
    '<x>\u0001</x>',
    '<x a="&#x110000;"/>',
    '<x a=b/>',
    '<x a="<"/>',
    '<x a/>',
    '< x/>',
    '<x></x',
    '</x>',
    '<x></x y>',
  ])
    assert.throws(() => scanXml(text), { code: 'xml.malformed' }, text);
  assert.throws(() => scanXml('<x>'.repeat(100) + '</x>'.repeat(100)), { message: /nests deeper/ });
  assert.throws(() => scanXml('<x><y><y></y></x>', { interest: () => 'nothing' }), { code: 'xml.malformed' });
  const laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><x>&b;</x>';
  assert.throws(() => scanXml(laughs), { message: /document type/ });
});

test('an attribute cannot reach the prototype of objects', () => {
  assert.equal(scanXml('<x __proto__="a" constructor="b"/>').attributes['constructor'], 'b');
  assert.equal(({} as Record<string, unknown>)['a'], undefined);
});

function pruned(element: XmlElement, wanted: Readonly<Record<string, Interest>>): XmlElement {
  const children = element.children.flatMap((child) => {
    const much = wanted[child.name] ?? 'all';
    if (much === 'nothing') return [];
    return [much === 'all' ? pruned(child, wanted) : { ...child, children: [], text: '' }];
  });
  return { ...element, children };
}

test('objects that are nothing like each other take no longer than those that are alike', () => {
  const object = (tag: string, count: number): string => `<o>${`<${tag}>1</${tag}>`.repeat(count)}</o>`;
  const many = 300_000;
  /** Side by side in one run: a comparison of each tag with all of the object before takes a hundred times as long. */
  const cpuOf = (...objects: readonly string[]): number => {
    const sizes: number[] = [];
    const take = (element: XmlElement): void => void sizes.push(element.children.length);
    const before = process.cpuUsage();
    scanXml(`<r>${objects.join('')}</r>`, { handOut: { path: ['r', 'o'], take } });
    assert.deepEqual(sizes, [many, many, 3]);
    const { user, system } = process.cpuUsage(before);
    return user + system;
  };
  const alike = cpuOf(object('a', many), object('a', many), object('b', 3));
  const unlike = cpuOf(object('a', many), object('b', many), object('b', 3));
  assert.ok(unlike < 20 * alike, `${unlike} µs against ${alike} µs`);
});
