/** A charge as the ledger stores it: JSON, with every number as decimal text. Written and read here only. */
import * as v from 'valibot';
import { BerthError } from '#base';
import { Exact } from '../exact.ts';
import type { Charge } from '../rating/charge.ts';

const VERSION = 1;
const decimal = v.pipe(
  v.string(),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    const value = Exact.parse(dataset.value);
    if (value !== undefined) return value;
    addIssue({ message: 'no plain decimal' });
    return NEVER;
  }),
);
const name = v.optional(v.string());
const document = v.object({
  version: v.literal(VERSION),
  key: v.string(),
  period: v.string(),
  category: v.picklist(['usage', 'fixed', 'idle', 'overhead', 'tax']),
  item: v.string(),
  card: v.string(),
  cardVersion: v.string(),
  currency: v.string(),
  resource: name,
  unit: name,
  focusUnit: name,
  step: v.exactOptional(v.pipe(v.number(), v.safeInteger(), v.minValue(1))),
  subject: v.object({
    vm: name,
    vmName: name,
    source: name,
    host: name,
    project: name,
    owner: name,
    tags: v.record(v.string(), v.string()),
  }),
  startMs: v.number(),
  endMs: v.number(),
  quantity: v.optional(decimal),
  unitPrice: v.optional(decimal),
  cost: decimal,
  basis: v.string(),
  allocation: v.optional(v.object({ method: v.string(), ratio: v.string() })),
});

/** The same charge gives the same text: that is how a recording sees what changed. */
export function writeCharge(charge: Charge): string {
  const { quantity, unitPrice, cost, subject, ...rest } = charge;
  const tags = Object.fromEntries(Object.entries(subject.tags).sort(([a], [b]) => (a < b ? -1 : 1)));
  return JSON.stringify({
    version: VERSION,
    ...rest,
    subject: { ...subject, tags },
    quantity: quantity?.toString(),
    unitPrice: unitPrice?.toString(),
    cost: cost.toString(),
  });
}

/** @throws ledger.damaged (data_loss) */
export function readCharge(text: string): Charge {
  const parsed = v.safeParse(document, JSON.parse(text));
  if (!parsed.success)
    throw new BerthError(
      'data_loss',
      'ledger.damaged',
      `the ledger holds a row that is no charge: ${text.slice(0, 200)}`,
    );
  const {
    version: _version,
    subject,
    resource,
    unit,
    focusUnit,
    quantity,
    unitPrice,
    allocation,
    ...rest
  } = parsed.output;
  const { vm, vmName, source, host, project, owner, tags } = subject;
  return {
    ...rest,
    resource,
    unit,
    focusUnit,
    quantity,
    unitPrice,
    allocation,
    subject: { vm, vmName, source, host, project, owner, tags },
  };
}
