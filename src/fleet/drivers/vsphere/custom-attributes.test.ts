import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseXml } from '../../xml.ts';
import { attributeTags, namesOf } from './custom-attributes.ts';

const NAMES = new Map([
  ['1', 'owner'],
  ['2', 'cost=centre'],
  ['3', 'note'],
]);

const valuesOf = (...values: readonly (readonly [string, string])[]) =>
  parseXml(
    `<val>${values.map(([key, value]) => `<CustomFieldValue><key>${key}</key><value>${value}</value></CustomFieldValue>`).join('')}</val>`,
  );

test('a value is told under the name of its key; one without a value, or of a key nobody named, is not', () => {
  const told = valuesOf(['3', 'a=b'], ['1', 'old'], ['9', 'x'], ['2', ''], ['1', 'team-a']);
  assert.deepEqual(attributeTags(told, NAMES), ['note=a=b', 'owner=team-a']);
  assert.deepEqual(attributeTags(valuesOf(['2', 'v']), NAMES), ['cost%3Dcentre=v']);
  assert.deepEqual(attributeTags(valuesOf(), NAMES), []);
});

test('however many a server tells, and however long they are, a VM has some of them', () => {
  const many = Array.from({ length: 5_000 }, (_, n) => [`${n}`, 'x'.repeat(5_000)] as const);
  const names = new Map(many.map(([key]) => [key, `name-${key}`]));
  const tags = attributeTags(valuesOf(...many), names);
  assert.equal(tags.length, 200);
  assert.ok(tags.every((tag) => tag.length === 1_000));
});

test('definitions without a key or a name are passed over', () => {
  const fields = parseXml(
    '<val><CustomFieldDef><key>1</key><name>owner</name></CustomFieldDef><CustomFieldDef><name>x</name></CustomFieldDef><CustomFieldDef><key>2</key><name></name></CustomFieldDef></val>',
  );
  assert.deepEqual([...namesOf(fields)], [['1', 'owner']]);
  assert.deepEqual([...namesOf(undefined)], []);
});
