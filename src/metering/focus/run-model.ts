/** Runs a rule model over a table. Pure. */
import { type CheckScene, type Row, rowTest, UnknownCheck } from './check-functions.ts';
import type { Check, ModelRule, RuleModel } from './model.ts';

export interface CheckedTable {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | null)[])[];
}

/**
 * `failed` for a MUST, `warned` for a SHOULD. `not_applicable`: for a capability that was not declared, or a column that
 * is not there. `not_checked`: the model says itself that no program can (Dynamic, MAY), or its check is unknown.
 * `contradictory`: another rule demands the opposite under the same condition, so that nothing could pass both.
 */
export type RuleStatus = 'passed' | 'failed' | 'warned' | 'not_applicable' | 'not_checked' | 'contradictory';

export interface RuleVerdict {
  readonly rule: string;
  readonly status: RuleStatus;
  readonly what: string;
  readonly failures: number;
  /** Some rows that fail, from 1; none when it is not a matter of rows. */
  readonly rows: readonly number[];
}

export interface ModelVerdict {
  readonly model: string;
  readonly verdicts: readonly RuleVerdict[];
  /** No MUST failed. */
  readonly isConformant: boolean;
}

const SHOWN_ROWS = 5;

export function runModel(model: RuleModel, table: CheckedTable, criteria: readonly string[]): ModelVerdict {
  const places = new Map(table.columns.map((name, index) => [name, index]));
  const rows = table.rows.map(
    (cells): Row =>
      (name) => {
        const place = places.get(name);
        return place === undefined ? undefined : (cells[place] ?? null);
      },
  );
  const contradictory = contradictions(model);
  const inherited = inheritance(model);
  const done = new Map<string, RuleVerdict>();
  const open = new Set<string>();
  const verdictOf = (id: string): RuleVerdict | undefined => {
    const known = done.get(id);
    const rule = model.rules.get(id);
    if (known !== undefined || rule === undefined || open.has(id)) return known;
    open.add(id);
    const verdict = judge(id, rule);
    open.delete(id);
    done.set(id, verdict);
    return verdict;
  };
  const scene: CheckScene = {
    hasColumn: (name) => places.has(name),
    rows,
    ruleHolds: (id) => {
      const status = verdictOf(id)?.status;
      return status === 'passed' || status === 'failed' ? status === 'passed' : undefined;
    },
  };
  const judge = (id: string, rule: ModelRule): RuleVerdict => {
    const { Requirement, Condition, Keyword, MustSatisfy } = rule.ValidationCriteria;
    const plain = (status: RuleStatus): RuleVerdict => ({ rule: id, status, what: MustSatisfy, failures: 0, rows: [] });
    if (
      rule.Status === 'Deprecated' ||
      rule.Type !== 'Static' ||
      /^MAY\b/.test(Keyword) ||
      Requirement.CheckFunction === undefined
    )
      return plain('not_checked');
    const { conditions, criteria: needed } = inherited.get(id) ?? { conditions: [], criteria: [] };
    if ([...rule.ApplicabilityCriteria, ...needed].some((one) => !criteria.includes(one)))
      return plain('not_applicable');
    if (contradictory.has(id)) return plain('contradictory');
    if (columnsOf(Requirement).some((name) => !places.has(name))) return plain('not_applicable');
    try {
      const concerns = [Condition, ...conditions].filter((one) => one.CheckFunction !== undefined);
      const isConcerned = rowTest({ CheckFunction: 'AND', Items: concerns }, scene);
      const passes = rowTest(Requirement, scene);
      const failing = isOfTable(Requirement)
        ? passes(() => undefined)
          ? []
          : [0]
        : rows.flatMap((row, index) => (isConcerned(row) && !passes(row) ? [index + 1] : []));
      if (failing.length === 0) return plain('passed');
      const status = /^(SHOULD|RECOMMENDED)/.test(Keyword) ? 'warned' : 'failed';
      const shown = failing.filter((row) => row > 0).slice(0, SHOWN_ROWS);
      return { ...plain(status), failures: failing.length, rows: shown };
    } catch (error) {
      if (error instanceof UnknownCheck) return plain('not_checked');
      throw error;
    }
  };
  const verdicts = [...model.rules.keys()].flatMap((id) => verdictOf(id) ?? []);
  return { model: model.name, verdicts, isConformant: verdicts.every((one) => one.status !== 'failed') };
}

/** Checks that are not about rows hold (or not) also for a table without any. */
function isOfTable(check: Check): boolean {
  if (check.CheckFunction === 'ColumnPresent' || check.CheckFunction === 'CheckModelRule') return true;
  const items = check.Items ?? [];
  return items.length > 0 && items.every(isOfTable);
}

/** Columns whose absence makes a check pointless; that they should be there is another rule's business. */
function columnsOf(check: Check): string[] {
  if (check.CheckFunction === 'ColumnPresent') return [];
  const own = [check.ColumnName, check.ColumnAName, check.ColumnBName, check.ResultColumnName];
  return [...own.flatMap((name) => name ?? []), ...(check.Items ?? []).flatMap(columnsOf)];
}

interface Inherited {
  readonly conditions: readonly Check[];
  readonly criteria: readonly string[];
}

/** What the parts of a composite rule have from it: "when X is not null, all of these" holds for each of them. */
function inheritance(model: RuleModel): ReadonlyMap<string, Inherited> {
  const found = new Map<string, Inherited>();
  const pass = (id: string, from: Inherited, path: readonly string[]): void => {
    const rule = model.rules.get(id);
    if (rule === undefined || path.includes(id)) return;
    const { Condition, Requirement } = rule.ValidationCriteria;
    const own = Condition.CheckFunction === undefined ? [] : [Condition];
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

function partsOf(check: Check): string[] {
  if (check.CheckFunction === 'CheckModelRule') return check.ModelRuleId === undefined ? [] : [check.ModelRuleId];
  return (check.Items ?? []).flatMap(partsOf);
}

/** Rules of which one says "is V" and the other "is not V" of the same column under the same condition. */
function contradictions(model: RuleModel): ReadonlySet<string> {
  const found = new Map<string, { is: string[]; isNot: string[] }>();
  for (const [id, rule] of model.rules) {
    const { Requirement, Condition } = rule.ValidationCriteria;
    const { CheckFunction, ColumnName, Value = null } = Requirement;
    if (rule.Status === 'Deprecated' || (CheckFunction !== 'CheckValue' && CheckFunction !== 'CheckNotValue')) continue;
    const key = JSON.stringify([ColumnName, Value, Condition]);
    const pair = found.get(key) ?? { is: [], isNot: [] };
    (CheckFunction === 'CheckValue' ? pair.is : pair.isNot).push(id);
    found.set(key, pair);
  }
  return new Set(
    [...found.values()].flatMap(({ is, isNot }) => (is.length > 0 && isNot.length > 0 ? [...is, ...isNot] : [])),
  );
}
