/** What the calls about money take and give. Costs are decimal text: all their digits count. */
import * as v from 'valibot';

const text = v.string();
const month = v.pipe(text, v.regex(/^\d{4}-(0[1-9]|1[0-2])$/, 'is no month such as 2026-11'));
const count = v.pipe(v.number(), v.integer());
const CostsSchema = v.record(text, text);

/** What the current month cost so far, as metrics tell it between two ratings. */
export const CostSummarySchema = v.object({
  month,
  currency: text,
  ratedMs: count,
  vms: v.array(v.object({ vm: text, name: text, project: text, source: text, cost: text })),
  hosts: v.array(v.object({ source: text, host: text, cost: text })),
  projects: v.array(v.object({ project: text, cost: text })),
  budgets: v.array(v.object({ budget: text, amount: text, actual: text, forecast: text })),
});
export type CostSummary = v.InferOutput<typeof CostSummarySchema>;

export const CostStatusSchema = v.object({
  hasCard: v.boolean(),
  ledger: v.picklist(['sqlite', 'postgres']),
  ratedMs: v.nullable(count),
  problem: v.pipe(v.nullable(text), v.description('why the last rating failed')),
  summary: v.nullable(CostSummarySchema),
});

export const CostReportSchema = v.object({
  months: v.array(month),
  currency: v.pipe(text, v.description('ISO 4217; empty when nothing was charged')),
  by: v.array(text),
  rows: v.array(v.object({ names: v.array(text), parts: CostsSchema, cost: text })),
  total: v.object({ parts: CostsSchema, cost: text }),
  closed: v.pipe(v.array(month), v.description('those of the months that are closed for good')),
});

export const RatedSchema = v.object({
  months: v.array(
    v.object({
      month,
      added: count,
      replaced: count,
      removed: count,
      corrections: count,
      unpriced: v.pipe(v.array(text), v.description('resources that were used and have no price')),
      gaps: count,
    }),
  ),
  told: v.pipe(v.array(text), v.description('budgets somebody was told about just now')),
  untold: v.pipe(v.array(text), v.description('budgets nobody could be told about, and why')),
});

export const CardFactsSchema = v.object({ name: text, currency: text, versions: v.array(text) });
export const CardTextSchema = v.object({ card: v.pipe(text, v.description('a rate card, YAML')) });
export const ClosedSchema = v.object({ month, closedAtMs: count });

export const SetCardSchema = v.strictObject({ card: v.pipe(text, v.maxLength(400_000)) });
export const SetLedgerSchema = v.strictObject({
  address: v.optional(v.pipe(text, v.maxLength(2_000), v.description("postgres://…; absent: the daemon's own file"))),
});
export const MonthSchema = v.strictObject({ month });
export const MonthsSchema = v.strictObject({ months: v.optional(v.pipe(v.array(month), v.maxLength(120)), []) });

const zone = v.optional(v.pipe(text, v.maxLength(100)), 'UTC');

export const CostReportQuerySchema = v.strictObject({
  month: v.optional(v.pipe(v.array(month), v.maxLength(120)), []),
  by: v.optional(v.pipe(text, v.maxLength(200)), 'project'),
  zone,
});
export const CostChargesQuerySchema = v.strictObject({
  month: v.optional(v.pipe(v.array(month), v.maxLength(120)), []),
});
/** Each charge is a JSON document of its own, numbers in it decimal text: as the ledger keeps it. */
export const CostChargesSchema = v.object({
  months: v.array(text),
  currency: text,
  closed: v.array(text),
  charges: v.array(v.object({ month: text, isCorrection: v.boolean(), charge: text })),
});
export const CostPageQuerySchema = v.strictObject({ month: v.pipe(v.array(month), v.length(1)), zone });
