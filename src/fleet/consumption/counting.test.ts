import assert from 'node:assert/strict';
import { test } from 'node:test';
import { someSample } from '../fixture.ts';
import { AMOUNTS, byHour, countBetween, countPeriod, hourOf, type KeptReading, keptAfter } from './counting.ts';

const HOUR = 3_600_000;
const usual = { everyMs: 60_000, beganMs: undefined };

function kept(changes: Partial<KeptReading>): KeptReading {
  return { run: '1', atMs: 60_000, hasEnded: false, counters: { cpuNanoseconds: 500n, sentBytes: 100n }, ...changes };
}

test('the first reading of a VM that ran before berth looked counts nothing', () => {
  const counted = countBetween(undefined, someSample({ cpuNanoseconds: 9_000n }), usual);
  assert.deepEqual(counted?.amounts, {});
  assert.deepEqual(counted?.gaps, []);
});

test('the first reading of a run that began before berth’s eyes counts whole, from then on', () => {
  const now = someSample({ atMs: 90_000, cpuNanoseconds: 9_000n });
  const counted = countBetween(undefined, now, { everyMs: 60_000, beganMs: 70_000 });
  assert.deepEqual(counted?.span, { startMs: 70_000, endMs: 90_000 });
  assert.equal(counted?.amounts.cpuNanoseconds, 9_000n);
});

test('two readings of one run count their difference', () => {
  const counted = countBetween(kept({}), someSample({ atMs: 120_000, cpuNanoseconds: 700n, sentBytes: 150n }), usual);
  assert.deepEqual(counted?.amounts, { cpuNanoseconds: 200n, sentBytes: 50n });
  assert.deepEqual(counted?.gaps, []);
});

test('a reading that is not newer counts nothing and is not kept', () => {
  assert.equal(countBetween(kept({}), someSample({ atMs: 60_000, cpuNanoseconds: 700n }), usual), undefined);
  assert.equal(countBetween(kept({}), someSample({ atMs: 1, cpuNanoseconds: 700n }), usual), undefined);
});

test('a new run counts from its own beginning, even when its counter is already past the old one, and a gap says so', () => {
  const now = someSample({ atMs: 120_000, run: '2', cpuNanoseconds: 800n });
  const counted = countBetween(kept({}), now, { everyMs: 60_000, beganMs: 100_000 });
  assert.deepEqual(counted?.span, { startMs: 100_000, endMs: 120_000 });
  assert.equal(counted?.amounts.cpuNanoseconds, 800n);
  assert.deepEqual(counted?.gaps, [{ kind: 'reset', fromMs: 60_000, toMs: 120_000 }]);
});

test('a counter that was never told before is a baseline, not all that the run did', () => {
  const before = kept({ run: null, counters: {} });
  const told = countBetween(before, someSample({ atMs: 120_000, run: '1', cpuNanoseconds: 9_000n }), usual);
  assert.deepEqual([told?.amounts.cpuNanoseconds, told?.gaps], [undefined, []]);
});

test('processor time that fell is a new run, whatever the run is called', () => {
  const counted = countBetween(kept({}), someSample({ atMs: 120_000, run: '1', cpuNanoseconds: 3n }), usual);
  assert.equal(counted?.amounts.cpuNanoseconds, 3n);
  assert.equal(counted?.gaps[0]?.kind, 'reset');
});

test('a network card that was taken away is no new run: what is left is where it goes on from', () => {
  const now = someSample({ atMs: 120_000, cpuNanoseconds: 600n, sentBytes: 20n });
  const counted = countBetween(kept({}), now, usual);
  assert.deepEqual(counted?.amounts, { cpuNanoseconds: 100n });
  assert.equal(counted?.gaps[0]?.kind, 'device');
  const next = countBetween(keptAfter(kept({}), now), someSample({ atMs: 180_000, sentBytes: 25n }), usual);
  assert.equal(next?.amounts.sentBytes, 5n);
});

test('a counter of 32 bits that went over its top counts the short way', () => {
  const before = kept({ counters: { sentBytes: 4_294_967_290n } });
  const counted = countBetween(before, someSample({ atMs: 120_000, counterBits: 32, sentBytes: 10n }), usual);
  assert.equal(counted?.amounts.sentBytes, 16n);
});

test('a late reading counts its whole difference and no memory, and is a gap', () => {
  const now = someSample({ atMs: 60_000 + 5 * HOUR, cpuNanoseconds: 900n, memoryUsedBytes: 4_096n });
  const counted = countBetween(kept({}), now, usual);
  assert.deepEqual(counted?.amounts, { cpuNanoseconds: 400n });
  assert.deepEqual(counted?.gaps, [{ kind: 'late', fromMs: 60_000, toMs: 60_000 + 5 * HOUR }]);
});

test('memory in use counts by its time', () => {
  const counted = countBetween(kept({}), someSample({ atMs: 61_000, memoryUsedBytes: 10_240n }), usual);
  assert.equal(counted?.amounts.memoryKibMs, 10_000n);
});

test('what cannot be counts nothing and is told', () => {
  const now = someSample({ atMs: 120_000, cpuNanoseconds: 1n << 63n });
  const counted = countBetween(kept({}), now, usual);
  assert.equal(counted?.amounts.cpuNanoseconds, undefined);
  assert.equal(counted?.gaps[0]?.kind, 'absurd');
});

test('a VM that had ended goes on with a new run, and its end is not told twice', () => {
  const now = someSample({ atMs: 120_000, run: null, cpuNanoseconds: 800n });
  const counted = countBetween(kept({ run: null, hasEnded: true }), now, usual);
  assert.equal(counted?.amounts.cpuNanoseconds, 800n);
  assert.deepEqual(counted?.gaps, []);
});

test('what another source counted already is left out', () => {
  const counted = { span: { startMs: 0, endMs: 100 }, amounts: { sentBytes: 100n }, gaps: [] };
  assert.deepEqual(
    byHour(counted, 40).map((piece) => piece.amounts),
    [{ sentBytes: 60n }],
  );
  assert.deepEqual(byHour(counted, 100), []);
});

const period = (startMs: number, endMs: number) => ({
  nativeId: 'vm-1',
  startMs,
  endMs,
  cpuNanoseconds: 5n,
  memoryUsedBytes: 1024n,
  diskReadBytes: null,
  diskWrittenBytes: null,
  receivedBytes: null,
  sentBytes: null,
});

test('periods that a hypervisor measured count once, a clock that is set by seconds notwithstanding; what is missing is a gap', () => {
  const known = { untilMs: 40_000, hasEnded: false };
  assert.equal(countPeriod(period(20_000, 40_000), known), undefined);
  assert.equal(countPeriod(period(22_000, 42_000), known), undefined);
  assert.deepEqual(countPeriod(period(39_000, 59_000), known)?.span, { startMs: 40_000, endMs: 59_000 });
  assert.deepEqual(countPeriod(period(41_000, 61_000), known), {
    span: { startMs: 41_000, endMs: 61_000 },
    amounts: { cpuNanoseconds: 5n, memoryKibMs: 20_000n },
    gaps: [],
  });
  assert.deepEqual(countPeriod(period(80_000, 100_000), known)?.gaps, [{ kind: 'late', fromMs: 40_000, toMs: 80_000 }]);
  assert.deepEqual(countPeriod(period(80_000, 100_000), { ...known, hasEnded: true })?.gaps, []);
});

/** Deterministic: the same numbers on every run. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state / 2_147_483_648;
  };
}

test('property: whatever readings are lost or repeated, hours add up to what the runs counted, less what gaps say was unseen', () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const random = generator(seed);
    let before: KeptReading | undefined;
    let [truth, run, atMs, used, lost] = [0n, 1, 1_700_000_000_000, 0n, 0n];
    let seen = 0n;
    let total = 0n;
    for (let turn = 0; turn < 40; turn += 1) {
      atMs += Math.floor(random() * 2 * HOUR) + 1;
      const rise = BigInt(Math.floor(random() * 1e12));
      used += rise;
      truth += rise;
      if (random() < 0.2) {
        // Restarted: what it did since it was last read is lost, and only that.
        lost += used - seen;
        [run, used, seen] = [run + 1, 0n, 0n];
      }
      if (random() < 0.3) continue;
      const now = someSample({ atMs, run: String(run), cpuNanoseconds: used });
      const counted = countBetween(before, now, {
        everyMs: 60_000,
        beganMs: before === undefined ? atMs - 1 : undefined,
      });
      assert.ok(counted !== undefined);
      const pieces = byHour(counted, 0);
      for (const piece of pieces) {
        assert.ok(hourOf(piece.startMs) === piece.hourMs && piece.endMs <= piece.hourMs + HOUR);
        assert.ok(AMOUNTS.every((name) => (piece.amounts[name] ?? 0n) >= 0n));
        total += piece.amounts.cpuNanoseconds ?? 0n;
      }
      // The same reading again, as by a process that was killed before it said that it was done.
      const after = keptAfter(before, now);
      assert.equal(countBetween(after, now, { everyMs: 60_000, beganMs: undefined }), undefined);
      [before, seen] = [after, used];
    }
    assert.equal(total, truth - lost - (used - seen), `seed ${seed}`);
  }
});
