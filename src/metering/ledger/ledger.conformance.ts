/** What every ledger does, whatever keeps it. Run by tests/component/ledger.test.ts against the real things. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Exact, sumOf } from '../exact.ts';
import type { Charge } from '../rating/charge.ts';
import { chargeOf } from './charge-fixture.ts';
import type { Ledger, LedgerEntry } from './ledger.ts';

export interface LedgerKind {
  readonly name: string;
  /** A new, empty ledger; `again` opens the same one a second time. */
  open(): Promise<{ readonly ledger: Ledger; readonly again: () => Promise<Ledger> }>;
}

const AT = Date.parse('2026-11-02T08:00:00Z');
const recording = (charges: readonly Charge[], scope = 'all') => ({
  period: '2026-10',
  scope,
  charges,
  bookInto: '2026-11',
  atMs: AT,
});
const costOf = (entries: readonly LedgerEntry[]): string => sumOf(entries.map((entry) => entry.charge.cost)).toString();

export function ledgerConformance(kind: LedgerKind): void {
  const check = (name: string, body: (ledger: Ledger, again: () => Promise<Ledger>) => Promise<void>): void => {
    test(`${kind.name}: ${name}`, async () => {
      const { ledger, again } = await kind.open();
      try {
        await body(ledger, again);
      } finally {
        await ledger.disconnect();
      }
    });
  };

  check('what is recorded is read back to the last digit, also by another connection', async (ledger, again) => {
    const charges = [
      chargeOf('a', '0.0000000000000000000000000001', '12345678901234567890.0000000001'),
      chargeOf('b', '2'),
    ];
    assert.deepEqual(await ledger.record(recording(charges)), { added: 2, replaced: 0, removed: 0, corrections: 0 });
    const other = await again();
    try {
      const entries = await other.entries('2026-10');
      assert.deepEqual(
        entries.map((entry) => entry.charge),
        charges,
      );
      assert.deepEqual(
        entries.map(({ kind: what, scope, bookedInto, recordedAtMs }) => ({ what, scope, bookedInto, recordedAtMs })),
        charges.map(() => ({ what: 'charge', scope: 'all', bookedInto: '2026-10', recordedAtMs: AT })),
      );
    } finally {
      await other.disconnect();
    }
  });

  check('rating an open month again replaces what changed and nothing else', async (ledger) => {
    await ledger.record(recording([chargeOf('a', '1'), chargeOf('b', '2'), chargeOf('c', '3')]));
    const second = [chargeOf('a', '1'), chargeOf('b', '5'), chargeOf('d', '4')];
    assert.deepEqual(await ledger.record(recording(second)), { added: 1, replaced: 1, removed: 1, corrections: 0 });
    assert.deepEqual(await ledger.record(recording(second)), { added: 0, replaced: 0, removed: 0, corrections: 0 });
    assert.equal(costOf(await ledger.entries('2026-10')), '0.12');
  });

  check('scopes do not touch one another', async (ledger) => {
    await ledger.record(recording([chargeOf('a', '1')], 'east'));
    await ledger.record(recording([chargeOf('a', '2')], 'west'));
    await ledger.record(recording([], 'east'));
    const entries = await ledger.entries('2026-10');
    assert.deepEqual(
      entries.map((entry) => [entry.scope, entry.charge.quantity?.toString()]),
      [['west', '2']],
    );
  });

  check('a month closes once', async (ledger) => {
    assert.deepEqual(await ledger.period('2026-10'), { period: '2026-10', state: 'open', closedAtMs: undefined });
    const closed = { period: '2026-10', state: 'closed', closedAtMs: AT };
    assert.deepEqual(await ledger.close('2026-10', AT), closed);
    assert.deepEqual(await ledger.close('2026-10', AT + 5), closed);
    assert.deepEqual(await ledger.period('2026-10'), closed);
  });

  check(
    'after closing, what is found differently becomes corrections, and closed rows stay as they are',
    async (ledger) => {
      await ledger.record(recording([chargeOf('a', '1'), chargeOf('b', '2'), chargeOf('gone', '3')]));
      await ledger.close('2026-10', AT);
      const before = await ledger.entries('2026-10');
      const late = [chargeOf('a', '1.5'), chargeOf('b', '2', '0.02'), chargeOf('new', '7')];
      assert.deepEqual(await ledger.record(recording(late)), { added: 0, replaced: 0, removed: 0, corrections: 5 });
      assert.deepEqual(await ledger.entries('2026-10'), before);
      const corrections = await ledger.entries('2026-11');
      assert.deepEqual(
        corrections
          .map(({ kind: what, charge }) => [
            what,
            charge.period,
            charge.subject.vm,
            `${charge.quantity}`,
            `${charge.cost}`,
          ])
          .sort(),
        [
          ['correction', '2026-10', 'a', '0.5', '0.006'],
          ['correction', '2026-10', 'b', '-2', '-0.024'],
          ['correction', '2026-10', 'b', '2', '0.04'],
          ['correction', '2026-10', 'gone', '-3', '-0.036'],
          ['correction', '2026-10', 'new', '7', '0.084'],
        ],
      );
      for (const { charge } of corrections)
        assert.ok((charge.unitPrice ?? Exact.zero).times(charge.quantity ?? Exact.zero).equals(charge.cost));
      assert.deepEqual(await ledger.record(recording(late)), { added: 0, replaced: 0, removed: 0, corrections: 0 });
    },
  );

  check('corrections are corrected in turn, also back to the beginning', async (ledger) => {
    await ledger.record(recording([chargeOf('a', '1')]));
    await ledger.close('2026-10', AT);
    for (const [quantity, price] of [
      ['2', '0.012'],
      ['2', '0.5'],
      ['1', '0.012'],
    ] as const) {
      await ledger.record(recording([chargeOf('a', quantity, price)]));
      const all = [...(await ledger.entries('2026-10')), ...(await ledger.entries('2026-11'))];
      assert.equal(costOf(all), Exact.from(quantity).times(Exact.from(price)).toString());
    }
  });

  check('corrections go into a later month that is open, or nowhere', async (ledger) => {
    await ledger.record(recording([chargeOf('a', '1')]));
    await ledger.close('2026-10', AT);
    const late = recording([chargeOf('a', '2')]);
    await assert.rejects(ledger.record({ ...late, bookInto: '2026-10' }), { code: 'ledger.booking', kind: 'conflict' });
    for (const bookInto of ['2026-09', '2026-13', 'soon'])
      await assert.rejects(ledger.record({ ...late, bookInto }), { code: 'ledger.booking' });
    await ledger.close('2026-11', AT);
    await assert.rejects(ledger.record(late), { code: 'ledger.booking' });
    assert.deepEqual(await ledger.entries('2026-11'), []);
    assert.equal((await ledger.record({ ...late, bookInto: '2026-12' })).corrections, 1);
  });

  check('two collectors that record the same month at once end with one set of rows', async (ledger, again) => {
    const other = await again();
    try {
      const charges = Array.from({ length: 50 }, (_, index) => chargeOf(`vm-${index}`, '1'));
      const outcomes = await Promise.all([ledger.record(recording(charges)), other.record(recording(charges))]);
      assert.deepEqual(outcomes.map((outcome) => outcome.added).sort(), [0, 50]);
      assert.equal((await ledger.entries('2026-10')).length, 50);
    } finally {
      await other.disconnect();
    }
  });
}
