/**
 * What FOCUS demands of Cost and Usage, as a rule model of berth's own making: the columns' table and the conditional
 * rules, in the form of `model.ts`. The published models can be run instead (`--model FILE`).
 *
 * @source FOCUS specification 1.2, 1.3, 1.4, column pages and attributes; rules stated in our own words
 */
import { type Criterion, type FocusColumn, type FocusVersion, focusColumns } from './columns.ts';
import { CONDITIONAL, type Conditional, is, isNot, or } from './conditional-rules.ts';
import type { Check, ModelRule, RuleModel } from './model.ts';

export function berthModel(version: FocusVersion): RuleModel {
  const rules = new Map<string, ModelRule>();
  const add = (column: string, what: string, more: Omit<Conditional, 'column' | 'what'>): void => {
    const { requirement, when = {}, keyword = 'MUST', criteria = [] } = more;
    rules.set(`${column}: ${what}`, {
      Reference: column,
      Type: 'Static',
      ApplicabilityCriteria: criteria,
      ValidationCriteria: {
        MustSatisfy: `${column} ${what}`,
        Keyword: keyword,
        Requirement: requirement,
        Condition: when,
      },
    });
  };
  const columns = focusColumns(version);
  for (const column of columns) addColumn(column, add);
  for (const { column, what, since = '1.2', until = '9', ...more } of CONDITIONAL)
    if (since <= version && version < until && columns.some(({ name }) => name === column)) add(column, what, more);
  return { name: `berth's rules for FOCUS ${version}`, rules };
}

function addColumn(
  { name, type, allowsNull, presence, values }: FocusColumn,
  add: (
    column: string,
    what: string,
    more: { requirement: Check; keyword?: 'MUST' | 'SHOULD'; criteria?: readonly Criterion[] },
  ) => void,
): void {
  const present: Check = { CheckFunction: 'ColumnPresent', ColumnName: name };
  if (presence === 'always') add(name, 'is present', { requirement: present });
  else if (presence === 'recommended') add(name, 'is present', { requirement: present, keyword: 'SHOULD' });
  else add(name, 'is present', { requirement: present, criteria: presence });
  const [ofType, format] = {
    String: ['TypeString', 'FormatString'],
    JSON: ['TypeString', 'FormatString'],
    Decimal: ['TypeDecimal', 'FormatNumeric'],
    DateTime: ['TypeDateTime', 'FormatDateTime'],
  }[type] as [string, string];
  add(name, `is of type ${type}`, { requirement: { CheckFunction: ofType, ColumnName: name } });
  add(name, `has the format of a ${type}`, { requirement: { CheckFunction: format, ColumnName: name } });
  if (!allowsNull) add(name, 'is not null', { requirement: isNot(name, null) });
  if (values !== undefined) {
    const allowed = values.map((value) => is(name, value));
    add(name, 'has an allowed value', { requirement: or(...allowed, ...(allowsNull ? [is(name, null)] : [])) });
  }
}
