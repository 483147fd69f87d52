import assert from 'node:assert/strict';
import { test } from 'node:test';
import { booleanFilter, labelsMatch, parseFilters } from './filters.ts';

const read = (value: unknown, accepted = ['label', 'dangling']): Record<string, readonly string[]> =>
  Object.fromEntries(parseFilters(JSON.stringify(value), accepted));

test('both shapes mean the same', () => {
  assert.deepEqual(read({ label: ['a=b', 'c'] }), { label: ['a=b', 'c'] });
  assert.deepEqual(read({ label: { 'a=b': true, c: true, d: false } }), { label: ['a=b', 'c'] });
  assert.deepEqual(read({ dangling: { true: 'true' } }), { dangling: ['true'] });
  assert.deepEqual(read({ label: [] }), {});
  assert.equal(parseFilters(null, []).size, 0);
  assert.equal(parseFilters('', []).size, 0);
});

test('what is unknown or malformed is refused, never ignored', () => {
  assert.throws(() => read({ bogus: ['1'] }), { code: 'filter.unknown', message: "invalid filter 'bogus'" });
  for (const text of ['[', '[1]', '"x"', '{"label":1}', '{"label":[1]}', 'null']) {
    assert.throws(() => parseFilters(text, ['label']), { code: 'filter.malformed' }, text);
  }
});

test('every wanted label must hold', () => {
  const labels = { a: 'b', empty: '', 'with=sign': 'x' };
  assert.ok(labelsMatch(labels, undefined));
  assert.ok(labelsMatch(labels, ['a', 'a=b', 'empty', 'empty=']));
  assert.ok(!labelsMatch(labels, ['a=c']));
  assert.ok(!labelsMatch(labels, ['a', 'missing']));
  assert.ok(!labelsMatch(labels, ['toString']));
});

test('booleans come in six spellings', () => {
  for (const text of ['1', 't', 'True', 'true']) {
    assert.equal(booleanFilter(parseFilters(`{"dangling":["${text}"]}`, ['dangling']), 'dangling'), true, text);
  }
  assert.equal(booleanFilter(parseFilters('{"dangling":["False"]}', ['dangling']), 'dangling'), false);
  assert.equal(booleanFilter(new Map(), 'dangling'), undefined);
  assert.throws(() => booleanFilter(new Map([['dangling', ['maybe']]]), 'dangling'), { code: 'filter.malformed' });
});
