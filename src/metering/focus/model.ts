/**
 * The form of a FOCUS rule model, as published for the validator: rules with a requirement, a condition and a keyword.
 * berth's own table (`rules.ts`) has the same form, so that one runner does both.
 *
 * @source finopsfoundation/focus_validator, FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec: the layout of model-*.json
 */
import * as v from 'valibot';
import { BerthError } from '#base';

export interface Check {
  readonly CheckFunction?: string | undefined;
  readonly ColumnName?: string | undefined;
  readonly ColumnAName?: string | undefined;
  readonly ColumnBName?: string | undefined;
  readonly ResultColumnName?: string | undefined;
  readonly Value?: string | number | null | undefined;
  readonly ExpectedCount?: number | undefined;
  readonly ModelRuleId?: string | undefined;
  readonly Items?: readonly Check[] | undefined;
}

export interface ModelRule {
  readonly Reference: string;
  readonly Status?: string | undefined;
  readonly Type: string;
  readonly ModelVersionIntroduced?: string | undefined;
  readonly ApplicabilityCriteria: readonly string[];
  readonly ValidationCriteria: {
    readonly MustSatisfy: string;
    readonly Keyword: string;
    readonly Requirement: Check;
    readonly Condition: Check;
  };
}

export interface RuleModel {
  readonly name: string;
  readonly rules: ReadonlyMap<string, ModelRule>;
}

const name = v.optional(v.pipe(v.string(), v.maxLength(200)));
const check: v.GenericSchema<unknown, Check> = v.looseObject({
  CheckFunction: name,
  ColumnName: name,
  ColumnAName: name,
  ColumnBName: name,
  ResultColumnName: name,
  Value: v.optional(v.nullable(v.union([v.string(), v.number()]))),
  ExpectedCount: v.optional(v.number()),
  ModelRuleId: name,
  Items: v.optional(v.array(v.lazy(() => check))),
});
const rule = v.looseObject({
  Reference: v.string(),
  Status: v.optional(v.string()),
  Type: v.string(),
  ModelVersionIntroduced: v.optional(v.string()),
  ApplicabilityCriteria: v.optional(v.array(v.string()), []),
  ValidationCriteria: v.looseObject({
    MustSatisfy: v.string(),
    Keyword: v.string(),
    Requirement: check,
    Condition: v.optional(check, {}),
  }),
});
/** One file of everything, or a file that is the rules themselves. */
const model = v.union([
  v.looseObject({ ModelRules: v.record(v.string(), rule) }),
  v.pipe(
    v.record(v.string(), rule),
    v.transform((ModelRules) => ({ ModelRules })),
  ),
]);

/** @throws focus.model (invalid) */
export function readModel(text: string, path: string): RuleModel {
  let parsed: v.SafeParseResult<typeof model>;
  try {
    parsed = v.safeParse(model, JSON.parse(text));
  } catch (error) {
    throw new BerthError('invalid', 'focus.model', `${path} is no JSON`, { cause: error });
  }
  if (!parsed.success)
    throw new BerthError('invalid', 'focus.model', `${path} is no FOCUS rule model: ${parsed.issues[0].message}`, {
      hint: 'take model-1.2.json and the like from the FOCUS validator',
    });
  const rules = new Map(Object.entries(parsed.output.ModelRules));
  if (rules.size === 0)
    throw new BerthError('invalid', 'focus.model', `${path} has no rules: everything would pass`, { facts: { path } });
  return { name: path, rules };
}
