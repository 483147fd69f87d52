/** Runs a rule model over a table. Pure. */
import { rowTest } from './check-functions.ts';
import { isKnownDefect } from './known-defects.ts';
import type { Check, ModelRule, RuleModel } from './model.ts';
import { contradictions, inheritance, isCheck, rulesInForce } from './model-structure.ts';
import { type CheckScene, type Row, UnknownCheck } from './row-test.ts';

export interface CheckedTable {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | null)[])[];
}

/**
 * `failed` for a MUST, `warned` for a SHOULD. `not_applicable`: for a capability that was not declared, a column that is
 * not there or another dataset, or no longer in force. `not_checked`: the model says itself that no program can (Dynamic,
 * MAY), or its check is unknown. `contradictory`: another rule demands the opposite under the same condition, so that
 * nothing could pass both. `defective`: known to say something else than the specification. A rule made of others is what they are: passed takes at least one that did.
 */
export type RuleStatus =
  | 'passed'
  | 'failed'
  | 'warned'
  | 'not_applicable'
  | 'not_checked'
  | 'contradictory'
  | 'defective';

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
  const inForce = rulesInForce(model);
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
  const statusOfTable = (check: Check): RuleStatus => {
    if (check.CheckFunction === 'ColumnPresent') return places.has(check.ColumnName ?? '') ? 'passed' : 'failed';
    if (check.CheckFunction === 'CheckModelRule') return verdictOf(check.ModelRuleId ?? '')?.status ?? 'not_checked';
    const statuses = (check.Items ?? []).map(statusOfTable);
    return check.CheckFunction === 'OR' ? anyOf(statuses) : allOf(statuses);
  };
  const judge = (id: string, rule: ModelRule): RuleVerdict => {
    const { Requirement, Condition, Keyword, MustSatisfy } = rule.ValidationCriteria;
    const plain = (status: RuleStatus): RuleVerdict => ({ rule: id, status, what: MustSatisfy, failures: 0, rows: [] });
    if (!inForce.has(id)) return plain('not_applicable');
    if (rule.Status === 'Deprecated' || rule.Type !== 'Static' || /^(MAY|OPTIONAL)\b/.test(Keyword))
      return plain('not_checked');
    if (!isCheck(Requirement)) return plain('not_checked');
    const { conditions, criteria: needed } = inherited.get(id) ?? { conditions: [], criteria: [] };
    if ([...rule.ApplicabilityCriteria, ...needed].some((one) => !criteria.includes(one)))
      return plain('not_applicable');
    if (contradictory.has(id)) return plain('contradictory');
    if (columnsOf(Requirement).some((name) => !places.has(name))) return plain('not_applicable');
    if (isKnownDefect(id, rule)) return plain('defective');
    const isAdvice = /^(SHOULD|RECOMMENDED|NOT RECOMMENDED)/.test(Keyword);
    const bad = isAdvice ? 'warned' : 'failed';
    if (isOfTable(Requirement)) {
      const status = statusOfTable(Requirement);
      return status === 'failed' ? { ...plain(bad), failures: 1 } : plain(status);
    }
    try {
      const concerns = [Condition, ...conditions].filter(isCheck);
      const isConcerned = rowTest({ CheckFunction: 'AND', Items: concerns }, scene);
      const passes = rowTest(Requirement, scene);
      const failing = rows.flatMap((row, index) => (isConcerned(row) && !passes(row) ? [index + 1] : []));
      if (failing.length === 0) return plain('passed');
      return { ...plain(bad), failures: failing.length, rows: failing.slice(0, SHOWN_ROWS) };
    } catch (error) {
      if (error instanceof UnknownCheck) return plain('not_checked');
      throw error;
    }
  };
  const verdicts = [...model.rules.keys()].flatMap((id) => verdictOf(id) ?? []);
  return { model: model.name, verdicts, isConformant: verdicts.every((one) => one.status !== 'failed') };
}

const UNDECIDED = ['contradictory', 'defective', 'not_checked', 'not_applicable'] as const;

/** Advice that was not followed does not fail a whole. */
function allOf(statuses: readonly RuleStatus[]): RuleStatus {
  if (statuses.includes('failed')) return 'failed';
  if (statuses.includes('passed') || statuses.includes('warned')) return 'passed';
  return UNDECIDED.find((one) => statuses.includes(one)) ?? 'not_checked';
}

function anyOf(statuses: readonly RuleStatus[]): RuleStatus {
  if (statuses.includes('passed') || statuses.includes('warned')) return 'passed';
  const open = UNDECIDED.find((one) => one !== 'not_applicable' && statuses.includes(one));
  return open ?? (statuses.includes('failed') ? 'failed' : 'not_applicable');
}

/** Checks that are not about rows hold (or not) also for a table without any. */
function isOfTable(check: Check): boolean {
  if (check.CheckFunction === 'ColumnPresent' || check.CheckFunction === 'CheckModelRule') return true;
  const items = check.Items ?? [];
  return (check.CheckFunction === 'AND' || check.CheckFunction === 'OR') && items.length > 0 && items.every(isOfTable);
}

/** Columns whose absence makes a check pointless; that they should be there is another rule's business. */
function columnsOf(check: Check): string[] {
  if (check.CheckFunction === 'ColumnPresent') return [];
  const own = [check.ColumnName, check.ColumnAName, check.ColumnBName, check.ResultColumnName];
  return [...own.flatMap((name) => name ?? []), ...(check.Items ?? []).flatMap(columnsOf)];
}
