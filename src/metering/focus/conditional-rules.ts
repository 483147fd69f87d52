/**
 * What FOCUS demands of several columns together, in our own words.
 *
 * @source FOCUS specification 1.2, 1.3, 1.4, column pages and attributes
 * @source finopsfoundation/focus_validator c53c1cf0: model-1.2.0.1.json, which of it is demanded by rule; for 1.3 and 1.4
 * FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec 881632d5, db4b67e3: specification/requirements_model/model_rules
 */
import type { Criterion, FocusVersion } from './columns.ts';
import type { Check } from './model.ts';
import { SERVICE_CATEGORIES } from './service-categories.ts';

export const is = (ColumnName: string, Value: string | number | null): Check => ({
  CheckFunction: 'CheckValue',
  ColumnName,
  Value,
});
export const isNot = (ColumnName: string, Value: string | null): Check => ({
  CheckFunction: 'CheckNotValue',
  ColumnName,
  Value,
});
const and = (...Items: Check[]): Check => ({ CheckFunction: 'AND', Items });
export const or = (...Items: Check[]): Check => ({ CheckFunction: 'OR', Items });
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

export interface Conditional {
  readonly column: string;
  readonly what: string;
  readonly requirement: Check;
  readonly when?: Check;
  readonly since?: FocusVersion;
  /** The first version that does not ask it. */
  readonly until?: FocusVersion;
  readonly criteria?: readonly Criterion[];
  readonly keyword?: 'MUST' | 'SHOULD';
}

const bothOrNeither = (column: string, other: string): Conditional[] => [
  { column, what: `is null when ${other} is null`, requirement: is(column, null), when: is(other, null) },
  { column, what: `is not null when ${other} is not null`, requirement: isNot(column, null), when: isNot(other, null) },
];

/** What is in the parts an allocation says it has. */
const ALLOCATION_DETAILS: readonly (readonly [what: string, check: Check, keyword?: 'MUST' | 'SHOULD'])[] = [
  ['is an object', { CheckFunction: 'FormatJSON' }],
  ['has its elements', { CheckFunction: 'JSONCheckPathKeyExists', Path: '$.Elements' }],
  ['has its elements in a list', { CheckFunction: 'JSONCheckPathType', Path: '$.Elements', ExpectedType: 'Array' }],
  ['has flat elements', { CheckFunction: 'JSONCheckPathKeyValueFormat', Path: '$.Elements[*]' }],
  [
    'has a ratio in each element',
    { CheckFunction: 'JSONCheckPathNotValue', Path: '$.Elements[*].AllocatedRatio', Value: null },
  ],
  [
    'has ratios that are numbers',
    { CheckFunction: 'JSONCheckPathType', Path: '$.Elements[*].AllocatedRatio', ExpectedType: 'Decimal' },
  ],
  ['has usage that is a number', { CheckFunction: 'JSONCheckPathNumericFormat', Path: '$.Elements[*].UsageQuantity' }],
  ['has units of usage', { CheckFunction: 'JSONCheckPathUnitFormat', Path: '$.Elements[*].UsageUnit' }, 'SHOULD'],
  [
    'has no other keys than those and x_…',
    {
      CheckFunction: 'JSONCheckPathKeyStartsWith',
      Path: '$.Elements[*]',
      Prefix: 'x_',
      IgnoreKeys: ['AllocatedRatio', 'UsageQuantity', 'UsageUnit'],
    },
  ],
];

export const CONDITIONAL: readonly Conditional[] = [
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
    keyword: 'SHOULD',
  },
  {
    column: 'ConsumedUnit',
    what: 'has the form of a unit',
    requirement: { CheckFunction: 'FormatUnit', ColumnName: 'ConsumedUnit' },
    keyword: 'SHOULD',
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
  {
    column: 'BillingAccountName',
    what: 'is not null',
    requirement: isNot('BillingAccountName', null),
    criteria: ['ACCOUNT_NAMING_SUPPORTED'],
  },
  {
    column: 'SubAccountName',
    what: 'is not null when SubAccountId is not null',
    requirement: isNot('SubAccountName', null),
    when: isNot('SubAccountId', null),
  },
  {
    column: 'SkuMeter',
    what: 'is not null when SkuId is not null',
    requirement: isNot('SkuMeter', null),
    when: isNot('SkuId', null),
    keyword: 'SHOULD',
  },
  {
    column: 'ServiceName',
    what: 'belongs to one ServiceSubcategory',
    requirement: oneOf('ServiceName', 'ServiceSubcategory'),
    keyword: 'SHOULD',
  },
  {
    column: 'ServiceSubcategory',
    what: 'is one of its ServiceCategory',
    requirement: or(
      ...Object.entries(SERVICE_CATEGORIES).map(([category, names]) =>
        and(is('ServiceCategory', category), or(...names.map((name) => is('ServiceSubcategory', name)))),
      ),
    ),
  },
  {
    column: 'BilledCost',
    what: 'is 0 when another than the provider issues the invoice',
    requirement: is('BilledCost', 0),
    when: { CheckFunction: 'CheckNotSameValue', ColumnAName: 'ProviderName', ColumnBName: 'InvoiceIssuerName' },
    until: '1.4',
  },
  {
    column: 'BillingCurrency',
    what: 'has the form of a currency',
    requirement: { CheckFunction: 'FormatCurrency', ColumnName: 'BillingCurrency' },
  },
  {
    column: 'SkuPriceDetails',
    what: 'is a flat object',
    requirement: { CheckFunction: 'FormatKeyValue', ColumnName: 'SkuPriceDetails' },
  },
  {
    column: 'ConsumedQuantity',
    what: 'is null when SkuPriceId is null',
    requirement: is('ConsumedQuantity', null),
    when: is('SkuPriceId', null),
    since: '1.3',
  },
  {
    column: 'HostProviderName',
    what: 'is not null unless the charge is a tax',
    requirement: isNot('HostProviderName', null),
    when: isNot('ChargeCategory', 'Tax'),
    since: '1.3',
  },
  {
    column: 'AllocatedResourceName',
    what: 'is not null when AllocatedResourceId is not null',
    requirement: isNot('AllocatedResourceName', null),
    when: isNot('AllocatedResourceId', null),
    since: '1.3',
  },
  ...ALLOCATION_DETAILS.map(
    ([what, check, keyword = 'MUST']): Conditional => ({
      column: 'AllocatedMethodDetails',
      what,
      requirement: { ColumnName: 'AllocatedMethodDetails', ...check },
      since: '1.3',
      keyword,
    }),
  ),
  ...bothOrNeither('InvoiceDetailId', 'InvoiceId'),
];
