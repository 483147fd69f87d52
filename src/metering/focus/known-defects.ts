/**
 * Rules of the published models that say something else than the specification they are made from, so that files which
 * keep to the specification fail them. They are named, not failed: docs/cost.md has them all. A rule that says something
 * else than what is quoted here, for example a mended one, is run.
 */
import type { Check, ModelRule } from './model.ts';

/** By the end of the rule's id: what it checks, wrongly. */
const KNOWN_DEFECTS: Readonly<Record<string, string>> = {
  // Only of purchases that cover charges to come; the rule cannot tell them from others. Gone in 1.4.
  'EffectiveCost-C-005-C': 'EffectiveCost is 0 when ChargeCategory is Purchase',
  // The values of a contract, where the column has Used and Unused.
  'CommitmentDiscountStatus-C-005-M':
    'CommitmentDiscountStatus is Active or CommitmentDiscountStatus is Expired or CommitmentDiscountStatus is Pending',
  // Null is allowed for what is under no commitment.
  'CommitmentDiscountCategory-C-005-M': 'CommitmentDiscountCategory is Spend or CommitmentDiscountCategory is Usage',
};

export function isKnownDefect(id: string, rule: ModelRule): boolean {
  const [, suffix = ''] = /([A-Za-z]+-C-\d+-[A-Z])$/.exec(id) ?? [];
  const said = Object.hasOwn(KNOWN_DEFECTS, suffix) ? KNOWN_DEFECTS[suffix] : undefined;
  if (said === undefined) return false;
  const { Requirement, Condition } = rule.ValidationCriteria;
  const when = textOf(Condition);
  return said === `${textOf(Requirement)}${when === '' ? '' : ` when ${when}`}`;
}

function textOf({ CheckFunction = '', ColumnName, Value, Items = [] }: Check): string {
  if (CheckFunction === 'OR') return Items.map(textOf).join(' or ');
  return CheckFunction === 'CheckValue' ? `${ColumnName} is ${Value}` : CheckFunction;
}
