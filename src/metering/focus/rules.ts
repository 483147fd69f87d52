/**
 * What FOCUS demands of Cost and Usage, as a rule model of berth's own making: the columns' table and the conditional
 * rules below, in the form of `model.ts`. The published models can be run instead (`--model FILE`).
 *
 * @source FOCUS specification 1.2, 1.3, 1.4, column pages and attributes; rules stated in our own words.
 */
import { type FocusColumn, type FocusVersion, focusColumns } from './columns.ts';
import type { Check, ModelRule, RuleModel } from './model.ts';

const is = (ColumnName: string, Value: string | null): Check => ({ CheckFunction: 'CheckValue', ColumnName, Value });
const isNot = (ColumnName: string, Value: string | null): Check => ({
  CheckFunction: 'CheckNotValue',
  ColumnName,
  Value,
});
const and = (...Items: Check[]): Check => ({ CheckFunction: 'AND', Items });
const or = (...Items: Check[]): Check => ({ CheckFunction: 'OR', Items });
const product = (ColumnAName: string, ResultColumnName: string): Check => ({
  CheckFunction: 'ColumnByColumnEqualsColumnValue',
  ColumnAName,
  ColumnBName: 'PricingQuantity',
  ResultColumnName,
});
const oneOf = (ColumnAName: string, ColumnBName: string): Check => ({
  CheckFunction: 'CheckDistinctCount',
  ColumnAName,
  ColumnBName,
  ExpectedCount: 1,
});

const IS_TAX = is('ChargeCategory', 'Tax');
const IS_PRICED = and(
  or(is('ChargeCategory', 'Usage'), is('ChargeCategory', 'Purchase')),
  isNot('ChargeClass', 'Correction'),
);
const PRICING = ['PricingQuantity', 'PricingUnit', 'ListUnitPrice', 'SkuId', 'SkuPriceId'];

interface Conditional {
  readonly column: string;
  readonly what: string;
  readonly requirement: Check;
  readonly when?: Check;
  readonly since?: FocusVersion;
  readonly keyword?: 'MUST' | 'SHOULD';
}

const bothOrNeither = (column: string, other: string): Conditional[] => [
  { column, what: `is null when ${other} is null`, requirement: is(column, null), when: is(other, null) },
  { column, what: `is not null when ${other} is not null`, requirement: isNot(column, null), when: isNot(other, null) },
];

const CONDITIONAL: readonly Conditional[] = [
  ...PRICING.flatMap((column): Conditional[] => [
    { column, what: 'is null for taxes', requirement: is(column, null), when: IS_TAX },
    {
      column,
      what: 'is not null for usage and purchases that correct nothing',
      requirement: isNot(column, null),
      when: IS_PRICED,
    },
  ]),
  ...bothOrNeither('PricingUnit', 'PricingQuantity'),
  ...bothOrNeither('ConsumedUnit', 'ConsumedQuantity'),
  ...bothOrNeither('ResourceType', 'ResourceId'),
  {
    column: 'ResourceName',
    what: 'is null when ResourceId is null',
    requirement: is('ResourceName', null),
    when: is('ResourceId', null),
  },
  {
    column: 'SubAccountName',
    what: 'is null when SubAccountId is null',
    requirement: is('SubAccountName', null),
    when: is('SubAccountId', null),
  },
  {
    column: 'SkuMeter',
    what: 'is null when SkuId is null',
    requirement: is('SkuMeter', null),
    when: is('SkuId', null),
  },
  {
    column: 'SkuPriceDetails',
    what: 'is null when SkuPriceId is null',
    requirement: is('SkuPriceDetails', null),
    when: is('SkuPriceId', null),
  },
  {
    column: 'PricingQuantity',
    what: 'is null when SkuPriceId is null',
    requirement: is('PricingQuantity', null),
    when: is('SkuPriceId', null),
    since: '1.3',
  },
  {
    column: 'ConsumedQuantity',
    what: 'is null unless the charge is usage',
    requirement: is('ConsumedQuantity', null),
    when: isNot('ChargeCategory', 'Usage'),
  },
  {
    column: 'ConsumedQuantity',
    what: 'is not null for usage that corrects nothing',
    requirement: isNot('ConsumedQuantity', null),
    when: and(is('ChargeCategory', 'Usage'), isNot('ChargeClass', 'Correction')),
  },
  {
    column: 'ListCost',
    what: 'equals ListUnitPrice × PricingQuantity',
    requirement: product('ListUnitPrice', 'ListCost'),
    when: isNot('ChargeClass', 'Correction'),
  },
  {
    column: 'ListUnitPrice',
    what: 'is not negative',
    requirement: { CheckFunction: 'CheckGreaterOrEqualThanValue', ColumnName: 'ListUnitPrice', Value: 0 },
  },
  {
    column: 'ChargeFrequency',
    what: 'is not Usage-Based for purchases',
    requirement: isNot('ChargeFrequency', 'Usage-Based'),
    when: is('ChargeCategory', 'Purchase'),
  },
  { column: 'SkuPriceId', what: 'belongs to one SkuId', requirement: oneOf('SkuPriceId', 'SkuId') },
  {
    column: 'ServiceName',
    what: 'belongs to one ServiceCategory',
    requirement: oneOf('ServiceName', 'ServiceCategory'),
  },
  {
    column: 'ServiceSubcategory',
    what: 'belongs to one ServiceCategory',
    requirement: oneOf('ServiceSubcategory', 'ServiceCategory'),
  },
  {
    column: 'BillingPeriodEnd',
    what: 'is after BillingPeriodStart',
    requirement: {
      CheckFunction: 'CheckNotSameValue',
      ColumnAName: 'BillingPeriodEnd',
      ColumnBName: 'BillingPeriodStart',
    },
  },
  {
    column: 'ChargePeriodEnd',
    what: 'is after ChargePeriodStart',
    requirement: {
      CheckFunction: 'CheckNotSameValue',
      ColumnAName: 'ChargePeriodEnd',
      ColumnBName: 'ChargePeriodStart',
    },
  },
  {
    column: 'ChargeDescription',
    what: 'is not null',
    requirement: isNot('ChargeDescription', null),
    keyword: 'SHOULD',
  },
  {
    column: 'BillingCurrency',
    what: 'is a national currency',
    requirement: { CheckFunction: 'CheckNationalCurrency', ColumnName: 'BillingCurrency' },
  },
  {
    column: 'PricingUnit',
    what: 'has the form of a unit',
    requirement: { CheckFunction: 'FormatUnit', ColumnName: 'PricingUnit' },
  },
  {
    column: 'ConsumedUnit',
    what: 'has the form of a unit',
    requirement: { CheckFunction: 'FormatUnit', ColumnName: 'ConsumedUnit' },
  },
  { column: 'Tags', what: 'is a flat object', requirement: { CheckFunction: 'FormatKeyValue', ColumnName: 'Tags' } },
  {
    column: 'AllocatedTags',
    what: 'is a flat object',
    requirement: { CheckFunction: 'FormatKeyValue', ColumnName: 'AllocatedTags' },
    since: '1.3',
  },
  {
    column: 'AllocatedResourceId',
    what: 'is null without an allocation',
    requirement: is('AllocatedResourceId', null),
    when: is('AllocatedMethodId', null),
    since: '1.3',
  },
  {
    column: 'AllocatedResourceName',
    what: 'is null when AllocatedResourceId is null',
    requirement: is('AllocatedResourceName', null),
    when: is('AllocatedResourceId', null),
    since: '1.3',
  },
  {
    column: 'AllocatedTags',
    what: 'is null when AllocatedResourceId is null',
    requirement: is('AllocatedTags', null),
    when: is('AllocatedResourceId', null),
    since: '1.3',
  },
  {
    column: 'AllocatedMethodDetails',
    what: 'is null without an allocation',
    requirement: is('AllocatedMethodDetails', null),
    when: is('AllocatedMethodId', null),
    since: '1.3',
  },
  {
    column: 'AllocatedMethodDetails',
    what: 'is not null with an allocation',
    requirement: isNot('AllocatedMethodDetails', null),
    when: isNot('AllocatedMethodId', null),
    since: '1.3',
    keyword: 'SHOULD',
  },
];

export function berthModel(version: FocusVersion): RuleModel {
  const rules = new Map<string, ModelRule>();
  const add = (
    column: string,
    what: string,
    more: Omit<Conditional, 'column' | 'what'> & { readonly criterion?: string },
  ): void => {
    const { requirement, when = {}, keyword = 'MUST', criterion } = more;
    rules.set(`${column}: ${what}`, {
      Reference: column,
      Type: 'Static',
      ApplicabilityCriteria: criterion === undefined ? [] : [criterion],
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
  for (const { column, what, since, ...more } of CONDITIONAL)
    if ((since === undefined || since <= version) && columns.some(({ name }) => name === column))
      add(column, what, more);
  return { name: `berth's rules for FOCUS ${version}`, rules };
}

function addColumn(
  { name, type, allowsNull, presence, values }: FocusColumn,
  add: (
    column: string,
    what: string,
    more: { requirement: Check; keyword?: 'MUST' | 'SHOULD'; criterion?: string },
  ) => void,
): void {
  const present: Check = { CheckFunction: 'ColumnPresent', ColumnName: name };
  if (presence === 'always') add(name, 'is present', { requirement: present });
  else if (presence === 'recommended') add(name, 'is present', { requirement: present, keyword: 'SHOULD' });
  else add(name, 'is present', { requirement: present, criterion: presence });
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
