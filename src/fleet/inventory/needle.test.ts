import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openDatabase } from '#store';
import { foldedLikeIndex, isWorthSampling, ladderOf } from './needle.ts';

const ALWAYS = { wanted: 101, quickEntries: 0 };

/** Names that begin alike, addresses of one network and UUIDs full of zeros, like those of many estates. */
const texts = Array.from({ length: 200 }, (_, n) => {
  const hex = n.toString(16).padStart(8, '0');
  return [
    `prod-eu-west-web-${String(n * 37).padStart(7, '0')}`,
    `vm-${n} ${hex}-0000-4000-8000-0000${hex}`,
    `00:50:56:00:00:${hex.slice(6)} 10.10.${n % 7}.${n}`,
    'owner=team',
  ].join('\n');
});
const sample = { texts, vms: 1_000_000 };

test('letters are compared like the index of SQLite compares them', () => {
  const database = openDatabase(':memory:', [
    "CREATE VIRTUAL TABLE s USING fts5 (t, tokenize = 'trigram', content = '', contentless_delete = 1)",
  ]);
  const letters = Array.from({ length: 0x1_0000 }, (_, code) => code)
    .filter((code) => code >= 0x20 && (code < 0xd800 || code > 0xdfff))
    .map((code) => String.fromCodePoint(code));
  database.transaction(() => {
    for (const [at, letter] of letters.entries())
      database.run('INSERT INTO s (rowid, t) VALUES (?, ?)', at + 1, `<=${letter}`);
  });
  for (let code = 0x20; code < 0x7f; code += 1) {
    const needle = `<=${String.fromCharCode(code)}`;
    const found = database
      .all<{ rowid: number }>('SELECT rowid FROM s WHERE s MATCH ? ORDER BY rowid', `"${needle.replaceAll('"', '""')}"`)
      .map((row) => letters[row.rowid - 1]);
    const expected = letters.filter((letter) => foldedLikeIndex(`<=${letter}`).includes(foldedLikeIndex(needle)));
    assert.deepEqual(found, expected, needle);
  }
  database.close();
});

test('each step is part of the next one, and the last is the text itself', () => {
  const wanted = [
    'PROD-eu-West-web-0000099',
    '10.10.10.10.10',
    '00:50:56:00:50:56',
    'xylophones',
    `${'0000-'.repeat(30)}`,
  ];
  for (const text of [...wanted, ...texts.flatMap((one) => one.split('\n'))]) {
    const ladder = ladderOf(text, sample, ALWAYS);
    assert.equal(ladder.at(-1), text);
    for (const [at, piece] of ladder.entries()) {
      assert.ok([...piece].length >= 3 && (ladder[at + 1] ?? text).includes(piece), `${piece} of ${text}`);
      assert.ok(at === 0 || piece.length > (ladder[at - 1]?.length ?? 0));
    }
  }
});

test('of a text whose threes all have, a piece is asked for that few have', () => {
  for (const text of ['10.10.10.10.10', '00:50:56:00:50:56', '00000000-0000-0000-0000-000000000000']) {
    const [first = ''] = ladderOf(text, sample, ALWAYS);
    assert.ok(first.length <= 8, `${first} of ${text}`);
    assert.ok(!texts.some((one) => one.includes(first)), `${first} of ${text}`);
  }
});

test('of a text that many have, a piece is enough that hardly more have', () => {
  const [first = ''] = ladderOf('prod-eu-west-web-0000', sample, ALWAYS);
  const having = (piece: string): number => texts.filter((one) => one.includes(piece)).length;
  assert.ok(first.length <= 7, first);
  assert.ok(having(first) <= having('prod-eu-west-web-0000') * 1.25, first);
});

test('a text of which three letters are rare is asked for as it is, and so is one that soon fills the page', () => {
  const usual = { wanted: 101, quickEntries: 250_000 };
  assert.deepEqual(ladderOf('prod-eu-west-xyz', sample, usual), ['prod-eu-west-xyz']);
  assert.deepEqual(ladderOf('prod-eu-west', sample, usual), ['prod-eu-west']);
  assert.ok(ladderOf('10.10.10.10.10', sample, usual).length > 1);
  assert.deepEqual(ladderOf('10.10.10.10.10', { texts, vms: 1_000 }, usual), ['10.10.10.10.10']);
});

test('letters beyond ASCII and texts of a few letters are left to the index', () => {
  for (const text of ['10.10.', 'größere-maschine', 'web\u0000web-web']) {
    assert.equal(isWorthSampling(text), false);
    assert.deepEqual(ladderOf(text, sample, ALWAYS), [text]);
  }
});

test('nothing is known of an estate without VMs, and any text can be asked for', () => {
  assert.equal(ladderOf('10.10.10.10.10', { texts: [], vms: 0 }, ALWAYS).at(-1), '10.10.10.10.10');
});
