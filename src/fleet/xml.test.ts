import assert from 'node:assert/strict';
import { test } from 'node:test';
import { childrenNamed, parseXml, textAt } from './xml.ts';

test('elements, attributes and text are there, without namespace prefixes', () => {
  const root = parseXml(
    `<a:x xmlns:a='u' k='v'><!-- no --><a:y a:t="1"> one &lt; <![CDATA[<two>]]> </a:y><y>3</y></a:x>`,
  );
  assert.equal(root.name, 'x');
  assert.equal(root.attributes['k'], 'v');
  assert.deepEqual(
    childrenNamed(root, 'y').map((child) => child.text),
    ['one < <two>', '3'],
  );
  assert.equal(root.children[0]?.attributes['t'], '1');
  assert.equal(textAt(root, 'y', 'z'), undefined);
});

test('entities are not defined, expanded or fetched', () => {
  const laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><x>&b;</x>';
  assert.throws(() => parseXml(laughs), { code: 'xml.malformed', message: /document type/ });
  assert.throws(() => parseXml('<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>'), { code: 'xml.malformed' });
  assert.throws(() => parseXml('<x>&unknown;</x>'), { code: 'xml.malformed' });
});

test('what is cut short, crossed or endless is refused', () => {
  for (const text of ['', '<x>', '<x></y>', '<x><y></x></y>', '<x/><y/>', 'text'])
    assert.throws(() => parseXml(text), { code: 'xml.malformed' }, text);
  assert.throws(() => parseXml('<x>'.repeat(100) + '</x>'.repeat(100)), { message: /nests deeper/ });
});

test('an attribute cannot reach the prototype of objects', () => {
  assert.equal(parseXml('<x __proto__="a" constructor="b"/>').attributes['constructor'], 'b');
  assert.equal(({} as Record<string, unknown>)['a'], undefined);
});
