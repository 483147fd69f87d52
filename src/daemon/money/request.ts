/** What the daemon asks of the program that reckons, one request a run: JSON on its standard input, JSON on its output. */
import * as v from 'valibot';

const text = v.string();
const month = v.pipe(text, v.regex(/^\d{4}-(0[1-9]|1[0-2])$/, 'is no month such as 2026-11'));

const QuestionSchema = v.object({
  months: v.array(month),
  by: v.array(text),
  zone: text,
});
export type CostQuestion = v.InferOutput<typeof QuestionSchema>;

export const MoneyRequestSchema = v.object({
  /** Folder of card, ledger and what was told. */
  folder: text,
  /** The fleet's database. */
  fleet: text,
  /** Whose rows these are in a ledger that several share. */
  scope: text,
  nowMs: v.number(),
  task: v.variant('do', [
    v.object({ do: v.literal('check'), card: text }),
    v.object({ do: v.literal('rate'), months: v.array(month) }),
    v.object({ do: v.literal('close'), month }),
    v.object({ do: v.literal('report'), question: QuestionSchema }),
    v.object({ do: v.literal('page'), month, zone: text }),
    v.object({ do: v.literal('charges'), months: v.array(month) }),
    v.object({ do: v.literal('needed'), months: v.array(month) }),
  ]),
});
export type MoneyRequest = v.InferOutput<typeof MoneyRequestSchema>;
export type MoneyTask = MoneyRequest['task'];

export const ProblemSchema = v.object({
  kind: text,
  code: text,
  message: text,
  hint: v.optional(text),
});
