/** How the rules of a model hang together: what is made of what, what holds where, what contradicts what. Pure. */
import type { Check, ModelRule, RuleModel } from './model.ts';

/** The dataset berth writes. */
const DATASET = 'CostAndUsage';

export interface Inherited {
  readonly conditions: readonly Check[];
  readonly criteria: readonly string[];
}

/** What the parts of a composite rule have from it: "when X is not null, all of these" holds for each of them. */
export function inheritance(model: RuleModel): ReadonlyMap<string, Inherited> {
  const found = new Map<string, Inherited>();
  const pass = (id: string, from: Inherited, path: readonly string[]): void => {
    const rule = model.rules.get(id);
    if (rule === undefined || path.includes(id)) return;
    const { Condition, Requirement } = rule.ValidationCriteria;
    const own = isCheck(Condition) ? [Condition] : [];
    const given = {
      conditions: [...from.conditions, ...own],
      criteria: [...from.criteria, ...rule.ApplicabilityCriteria],
    };
    if (given.conditions.length === 0 && given.criteria.length === 0) return;
    for (const child of partsOf(Requirement)) {
      const before = found.get(child);
      if (
        before !== undefined &&
        before.conditions.length >= given.conditions.length &&
        before.criteria.length >= given.criteria.length
      )
        continue;
      found.set(child, given);
      pass(child, given, [...path, id]);
    }
  };
  for (const id of model.rules.keys()) pass(id, { conditions: [], criteria: [] }, []);
  return found;
}

/** An empty object stands for no check. */
export function isCheck(check: Check): boolean {
  return Object.keys(check).length > 0;
}

function partsOf(check: Check): string[] {
  if (check.CheckFunction === 'CheckModelRule') return check.ModelRuleId === undefined ? [] : [check.ModelRuleId];
  return (check.Items ?? []).flatMap(partsOf);
}

/** Rules that are in force and about Cost and Usage; a model may have other datasets and what was removed beside them. */
export function rulesInForce(model: RuleModel): ReadonlySet<string> {
  const roots = model.datasets?.get(DATASET);
  const ours = roots === undefined ? undefined : reachable(model, roots);
  const others = [...(model.datasets ?? [])].flatMap(([id, from]) => (id === DATASET ? [] : from));
  const theirs = roots === undefined ? new Set<string>() : reachable(model, others);
  const isOurs = (id: string, rule: ModelRule): boolean =>
    ours === undefined || ours.has(id) || (!theirs.has(id) && (rule.DatasetId ?? DATASET) === DATASET);
  return new Set([...model.rules].flatMap(([id, rule]) => (rule.Status !== 'Removed' && isOurs(id, rule) ? [id] : [])));
}

function reachable(model: RuleModel, roots: readonly string[]): ReadonlySet<string> {
  const found = new Set(roots);
  // A set grows while it is walked.
  for (const id of found) {
    const criteria = model.rules.get(id)?.ValidationCriteria;
    for (const next of [...(criteria?.Dependencies ?? []), ...partsOf(criteria?.Requirement ?? {})]) found.add(next);
  }
  return found;
}

/** Rules of which one says "is V" and the other "is not V" of the same column under the same conditions. */
export function contradictions(model: RuleModel): ReadonlySet<string> {
  const inForce = rulesInForce(model);
  const inherited = inheritance(model);
  const found = new Map<string, { is: string[]; isNot: string[] }>();
  for (const [id, rule] of model.rules) {
    const { Requirement, Condition } = rule.ValidationCriteria;
    const { CheckFunction, ColumnName, Value = null } = Requirement;
    const isOfValue = CheckFunction === 'CheckValue' || CheckFunction === 'CheckNotValue';
    if (!inForce.has(id) || rule.Status === 'Deprecated' || !isOfValue) continue;
    const { conditions = [], criteria = [] } = inherited.get(id) ?? {};
    const under = [Condition, ...conditions].filter(isCheck);
    const key = JSON.stringify([ColumnName, Value, under, [...rule.ApplicabilityCriteria, ...criteria]]);
    const pair = found.get(key) ?? { is: [], isNot: [] };
    (CheckFunction === 'CheckValue' ? pair.is : pair.isNot).push(id);
    found.set(key, pair);
  }
  return new Set(
    [...found.values()].flatMap(({ is, isNot }) => (is.length > 0 && isNot.length > 0 ? [...is, ...isNot] : [])),
  );
}
