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
  readonly Value?: string | number | boolean | null | undefined;
  readonly ExpectedCount?: number | undefined;
  readonly ExpectedType?: string | undefined;
  readonly Comparator?: string | undefined;
  /** Where in a column of JSON. */
  readonly Path?: string | undefined;
  readonly PathA?: string | null | undefined;
  readonly PathB?: string | null | undefined;
  readonly Prefix?: string | undefined;
  readonly IgnoreKeys?: readonly string[] | undefined;
  readonly ModelRuleId?: string | undefined;
  readonly Items?: readonly Check[] | undefined;
}

export interface ModelRule {
  readonly Reference: string;
  readonly Status?: string | undefined;
  readonly Type: string;
  readonly ModelVersionIntroduced?: string | undefined;
  /** Of which dataset, in a model of several. */
  readonly DatasetId?: string | undefined;
  readonly ApplicabilityCriteria: readonly string[];
  readonly ValidationCriteria: {
    readonly MustSatisfy: string;
    readonly Keyword: string;
    readonly Requirement: Check;
    readonly Condition: Check;
    /** Rules this one is made of, also those it does not check itself. */
    readonly Dependencies?: readonly string[] | undefined;
  };
}

export interface RuleModel {
  readonly name: string;
  readonly rules: ReadonlyMap<string, ModelRule>;
  /** The rules each dataset starts from; none when the model does not say. */
  readonly datasets?: ReadonlyMap<string, readonly string[]>;
}

const name = v.optional(v.nullable(v.pipe(v.string(), v.maxLength(200))));
const names = v.optional(v.nullable(v.array(v.string())));
const value = v.optional(v.nullable(v.union([v.string(), v.number(), v.boolean()])));
const count = v.optional(v.nullable(v.number()));
const check: v.GenericSchema<unknown, Check> = v.pipe(
  v.looseObject({
    CheckFunction: name,
    ColumnName: name,
    ColumnAName: name,
    ColumnBName: name,
    ResultColumnName: name,
    CheckCondition: v.optional(v.unknown()),
    Value: value,
    ExpectedCount: count,
    ExpectedType: name,
    Comparator: name,
    Path: name,
    PathA: name,
    PathB: name,
    Prefix: name,
    IgnoreKeys: names,
    ModelRuleId: name,
    Items: v.optional(v.nullable(v.array(v.lazy(() => check)))),
    AND: v.optional(v.lazy(() => oneOrMore)),
    OR: v.optional(v.lazy(() => oneOrMore)),
  }),
  v.transform(regular),
);
const oneOrMore: v.GenericSchema<unknown, readonly Check[]> = v.union([
  v.array(check),
  v.pipe(
    check,
    v.transform((one) => [one]),
  ),
]);

/**
 * The two forms beside the regular one that published models have: `{"AND": [...]}` instead of a function with items,
 * and `CheckCondition` where the column should be named.
 */
function regular(found: { readonly [key: string]: unknown }): Check {
  const entries = Object.entries(found).filter(([key, one]) => one != null || key === 'Value');
  const { AND, OR, CheckCondition, ...rest } = Object.fromEntries(entries);
  if (rest['CheckFunction'] === undefined && AND !== undefined)
    return { CheckFunction: 'AND', Items: AND as readonly Check[] };
  if (rest['CheckFunction'] === undefined && OR !== undefined)
    return { CheckFunction: 'OR', Items: OR as readonly Check[] };
  return typeof CheckCondition === 'string' ? { ColumnName: CheckCondition, ...rest } : rest;
}

const rule = v.looseObject({
  Reference: v.string(),
  Status: v.optional(v.string()),
  Type: v.string(),
  ModelVersionIntroduced: v.optional(v.string()),
  DatasetId: v.optional(v.string()),
  ApplicabilityCriteria: v.optional(v.array(v.string()), []),
  ValidationCriteria: v.looseObject({
    MustSatisfy: v.string(),
    Keyword: v.string(),
    Requirement: check,
    Condition: v.optional(check, {}),
    Dependencies: v.optional(v.array(v.string()), []),
  }),
});
const dataset = v.looseObject({ ModelRules: v.optional(v.array(v.string()), []) });
const model = v.looseObject({
  ModelRules: v.record(v.string(), rule),
  ModelDatasets: v.optional(v.record(v.string(), dataset), {}),
});

/** One file of everything, or a file that is the rules themselves. @throws focus.model (invalid) */
export function readModel(text: string, path: string): RuleModel {
  let parsed: v.SafeParseResult<typeof model>;
  try {
    const found: unknown = JSON.parse(text);
    const isWhole = typeof found === 'object' && found !== null && 'ModelRules' in found;
    parsed = v.safeParse(model, isWhole ? found : { ModelRules: found });
  } catch (error) {
    throw new BerthError('invalid', 'focus.model', `${path} is no JSON`, { cause: error });
  }
  if (!parsed.success) {
    const [issue] = parsed.issues;
    const where = v.getDotPath(issue) ?? 'the file';
    throw new BerthError('invalid', 'focus.model', `${path} is no FOCUS rule model: ${where}: ${issue.message}`, {
      hint: 'take model-1.2.json and the like from the FOCUS validator',
    });
  }
  const rules = new Map(Object.entries(parsed.output.ModelRules));
  if (rules.size === 0)
    throw new BerthError('invalid', 'focus.model', `${path} has no rules: everything would pass`, { facts: { path } });
  const datasets = new Map(Object.entries(parsed.output.ModelDatasets).map(([id, one]) => [id, one.ModelRules]));
  return { name: path, rules, datasets };
}
