import assert from 'node:assert/strict';
import { test } from 'node:test';
import { causesOf, leadingClaim, type Moment, type OpenInterval, type Standing, step } from './intervals.ts';

const standing: Standing = {
  sourceId: 1,
  hostKey: 'h1',
  hostName: 'h1',
  powerState: 'running',
  vcpus: 1,
  memoryBytes: 1,
  diskBytes: null,
  addresses: 0,
  owner: null,
};
const at = (ms: number, observedMs = ms): Moment => ({ how: 'event', atMs: ms, observedMs, notBeforeMs: 0 });
const open: OpenInterval = { id: 5, standing, openedMs: 1_000 };

test('nothing changed: nothing is written', () => {
  assert.deepEqual(step(open, { ...standing, hostName: 'another word for it', sourceId: 2 }, at(2_000)), {});
  assert.deepEqual(step(undefined, undefined, at(2_000)), {});
});

test('a change closes one and opens the next at the same instant, with its causes', () => {
  const next = step(open, { ...standing, hostKey: 'h2', hostName: 'h2', powerState: 'paused' }, at(2_000));
  assert.equal(next.close?.moment.atMs, 2_000);
  assert.equal(next.open?.moment.atMs, 2_000);
  assert.deepEqual([next.open?.causes, next.open?.movedFrom], [['moved', 'power'], 'h1']);
  assert.deepEqual(causesOf(standing, { ...standing, vcpus: 2, owner: 'ann' }), ['shape', 'owner']);
});

test('a source whose clock is ahead does not write the future, one behind does not end before the beginning', () => {
  assert.equal(step(open, undefined, at(9_000, 2_000)).close?.moment.atMs, 2_000);
  assert.equal(step(open, undefined, at(500, 2_000)).close?.moment.atMs, 1_000);
});

test('our own clock set back: the interval ends where it began, not before', () => {
  const { close } = step(open, undefined, at(400, 400));
  assert.deepEqual([close?.moment.atMs, close?.moment.observedMs], [1_000, 1_000]);
});

test('who has the word: a source that answers, then the oldest sighting', () => {
  const claim = (sourceId: number, isFresh: boolean, firstSeenMs: number) => ({
    standing: { ...standing, sourceId },
    isFresh,
    firstSeenMs,
  });
  const word = (...claims: ReturnType<typeof claim>[]): number | undefined => leadingClaim(claims)?.standing.sourceId;
  assert.equal(word(claim(1, true, 9), claim(2, true, 5)), 2);
  assert.equal(word(claim(1, true, 9), claim(2, false, 5)), 1);
  assert.equal(word(claim(1, false, 9), claim(2, false, 5)), 2);
  assert.equal(word(claim(2, true, 5), claim(1, true, 5)), 1);
  assert.equal(word(), undefined);
});

test('addresses that are told a moment after the start were there from the start; later they are another shape', () => {
  const silent: OpenInterval = { id: 5, standing: { ...standing, addresses: null }, openedMs: 1_000 };
  assert.deepEqual(step(silent, { ...standing, addresses: 2 }, at(3_000)), {
    learn: { id: 5, addresses: 2, owner: null },
  });
  assert.deepEqual(step(silent, { ...standing, addresses: 2 }, at(90_000)).open?.causes, ['shape']);
  const known: OpenInterval = { id: 5, standing: { ...standing, addresses: 2 }, openedMs: 1_000 };
  assert.deepEqual(step(known, { ...standing, addresses: 3 }, at(90_000)).open?.standing.addresses, 3);
});

test('a VM whose addresses are not told any more, paused or off, keeps them', () => {
  const known: OpenInterval = { id: 5, standing: { ...standing, addresses: 2 }, openedMs: 1_000 };
  assert.deepEqual(step(known, { ...standing, addresses: null }, at(90_000)), {});
  const off = step(known, { ...standing, powerState: 'off', addresses: null }, at(90_000));
  assert.deepEqual([off.open?.causes, off.open?.standing.addresses], [['power'], 2]);
});

test('an owner that nobody had asked for before was there from the beginning; much later, or with something else, it is a change', () => {
  const firstWord = (ms: number): Moment => ({ ...at(ms), how: 'poll', isFirstWord: true });
  const owned = { ...standing, owner: 'ann' };
  assert.deepEqual(step(open, owned, firstWord(300_000)), { learn: { id: 5, addresses: 0, owner: 'ann' } });
  assert.deepEqual(step(open, owned, at(1_001)).open?.causes, ['owner']);
  assert.deepEqual(step(open, owned, firstWord(3_600_000)).open?.causes, ['owner']);
  assert.deepEqual(step(open, { ...owned, powerState: 'off' }, firstWord(2_000)).open?.causes, ['power', 'owner']);
});
