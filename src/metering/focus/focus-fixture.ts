/** Tables for tests of what makes and checks FOCUS exports. */
import assert from 'node:assert/strict';
import { loadRateCard } from '../rate-card/parse-card.ts';
import { rate } from '../rating/rate.ts';
import { UsageReader } from '../usage/usage-file.ts';
import type { FocusVersion } from './columns.ts';
import { type FocusCharge, type FocusTable, focusTable } from './focus-rows.ts';
import type { CheckedTable } from './run-model.ts';

const GIB = 1024 ** 3;

/** The card in the text of docs/cost.md. */
export const exampleIn = (doc: string): string => /```yaml\n([\s\S]*?)```/.exec(doc)?.[1] ?? '';

/** A small November of the card in docs/cost.md: VMs, a host shared out, operations, a fixed item, a tax and a correction. */
export function chargesBy(card: string): FocusCharge[] {
  const reader = new UsageReader('test');
  const vm = { type: 'interval', source: 'lab', host: 'h1', power: 'running', vcpus: 2, memoryBytes: 4 * GIB };
  const span = { start: '2026-11-20T10:00:00Z', end: '2026-11-20T12:30:00.500Z' };
  for (const fact of [
    { berth: 'usage', version: 1 },
    {
      ...vm,
      ...span,
      vm: 'a',
      name: 'shop-zürich',
      tags: { app: 'x,"y"' },
      disks: [{ class: 'ssd', bytes: GIB }],
      addresses: 1,
    },
    { ...vm, ...span, vm: 'b', name: 'mail', tags: { app: 'mail', licence: 'windows' }, vcpus: 1 },
    {
      type: 'consumed',
      vm: 'a',
      amounts: { diskReadOperations: '1500000', diskWriteOperations: '1' },
      start: '2026-11-20T10:00:00Z',
      end: '2026-11-20T11:00:00Z',
    },
    { type: 'host', source: 'lab', host: 'h1', vcpus: 16, memoryBytes: 64 * GIB, overheadVcpus: 1, ...span },
  ])
    reader.add(JSON.stringify(fact));
  const { charges } = rate(loadRateCard(card, 'docs/cost.md'), '2026-11', reader.finish());
  const rated = charges.map((charge) => ({ charge, isCorrection: false, bookedInto: '2026-11', invoiceId: undefined }));
  const [first] = rated;
  assert.ok(first !== undefined);
  // A closed October, corrected in November.
  return [...rated, { ...first, isCorrection: true, charge: { ...first.charge, period: '2026-10' } }];
}

export const ISSUER = { name: 'Our IT', accountId: 'it-1', accountName: 'Our IT' };
export const tableBy = (card: string, version: FocusVersion): FocusTable =>
  focusTable(chargesBy(card), ISSUER, version);
export const checked = (table: FocusTable): CheckedTable => ({
  columns: table.columns.map(({ name }) => name),
  rows: table.rows,
});
