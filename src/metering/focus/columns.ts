/**
 * The columns of FOCUS's Cost and Usage dataset that berth exports, and since (until) which version.
 *
 * @source FOCUS specification 1.2, 1.3 and 1.4 (focus.finops.org, CC-BY-4.0): names, types and nullability as facts
 * @source finopsfoundation/focus_validator c53c1cf0: model-1.2.0.1.json; FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec
 * ccad46c9 (1.3) and db06eaf1 (1.4): specification/requirements_model, what is there under which criterion
 */
import { SERVICE_CATEGORIES } from './service-categories.ts';

export const FOCUS_VERSIONS = ['1.2', '1.3', '1.4'] as const;
export type FocusVersion = (typeof FOCUS_VERSIONS)[number];
export type FocusType = 'String' | 'Decimal' | 'DateTime' | 'JSON';

/** What berth's data supports; a rule that is for another capability does not apply. */
export const BERTH_CRITERIA = [
  'ACCOUNT_NAMING_SUPPORTED',
  'BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED',
  'DATA_GENERATOR_SPLIT_COST_ALLOCATION_SUPPORTED',
  'INVOICE_ISSUER_PAYABLE_INVOICES_SUPPORTED',
  'PUBLIC_PRICE_LIST_SUPPORTED',
  'RESOURCE_TYPE_ASSIGNMENT_SUPPORTED',
  'SUB_ACCOUNT_SUPPORTED',
  'TAGGING_SUPPORTED',
  'UNIT_PRICING_SUPPORTED',
  'USAGE_MEASUREMENT_SUPPORTED',
] as const;
export type Criterion = (typeof BERTH_CRITERIA)[number];

export interface FocusColumn {
  readonly name: string;
  readonly type: FocusType;
  readonly allowsNull: boolean;
  readonly since: FocusVersion;
  /** The first version without it. */
  readonly until?: FocusVersion;
  /** Must it be there: always, or for who supports all of these; `recommended`: it should. */
  readonly presence: 'always' | 'recommended' | readonly Criterion[];
  readonly values?: readonly string[];
}

const all = (name: string, type: FocusType, more: Partial<FocusColumn> = {}): FocusColumn => ({
  name,
  type,
  allowsNull: false,
  since: '1.2',
  presence: 'always',
  ...more,
});
const SPLIT = { allowsNull: true, since: '1.3', presence: ['DATA_GENERATOR_SPLIT_COST_ALLOCATION_SUPPORTED'] } as const;
const SKU = { allowsNull: true, presence: ['PUBLIC_PRICE_LIST_SUPPORTED', 'UNIT_PRICING_SUPPORTED'] } as const;
const INVOICES = ['INVOICE_ISSUER_PAYABLE_INVOICES_SUPPORTED'] as const;

const COLUMNS: readonly FocusColumn[] = [
  all('AllocatedMethodDetails', 'JSON', { ...SPLIT, presence: 'recommended' }),
  all('AllocatedMethodId', 'String', SPLIT),
  all('AllocatedResourceId', 'String', SPLIT),
  all('AllocatedResourceName', 'String', SPLIT),
  all('AllocatedTags', 'JSON', SPLIT),
  all('BilledCost', 'Decimal'),
  all('BillingAccountId', 'String'),
  all('BillingAccountName', 'String', { allowsNull: true }),
  all('BillingCurrency', 'String'),
  all('BillingPeriodEnd', 'DateTime'),
  all('BillingPeriodStart', 'DateTime'),
  all('ChargeCategory', 'String', { values: ['Usage', 'Purchase', 'Tax', 'Credit', 'Adjustment'] }),
  all('ChargeClass', 'String', { allowsNull: true, values: ['Correction'] }),
  all('ChargeDescription', 'String', { allowsNull: true }),
  all('ChargeFrequency', 'String', { presence: 'recommended', values: ['One-Time', 'Recurring', 'Usage-Based'] }),
  all('ChargePeriodEnd', 'DateTime'),
  all('ChargePeriodStart', 'DateTime'),
  all('ConsumedQuantity', 'Decimal', { allowsNull: true, presence: ['USAGE_MEASUREMENT_SUPPORTED'] }),
  all('ConsumedUnit', 'String', { allowsNull: true, presence: ['USAGE_MEASUREMENT_SUPPORTED'] }),
  all('ContractedCost', 'Decimal'),
  all('EffectiveCost', 'Decimal'),
  all('HostProviderName', 'String', { since: '1.3', allowsNull: true }),
  all('InvoiceDetailId', 'String', { since: '1.4', allowsNull: true, presence: INVOICES }),
  all('InvoiceId', 'String', { until: '1.4', allowsNull: true, presence: 'recommended' }),
  all('InvoiceId', 'String', { since: '1.4', allowsNull: true, presence: INVOICES }),
  all('InvoiceIssuerName', 'String'),
  all('ListCost', 'Decimal'),
  all('ListUnitPrice', 'Decimal', { allowsNull: true, presence: ['PUBLIC_PRICE_LIST_SUPPORTED'] }),
  all('PricingQuantity', 'Decimal', { allowsNull: true }),
  all('PricingUnit', 'String', { allowsNull: true }),
  all('ProviderName', 'String', { until: '1.4' }),
  all('PublisherName', 'String', { until: '1.4' }),
  all('ResourceId', 'String', { allowsNull: true, presence: ['BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED'] }),
  all('ResourceName', 'String', { allowsNull: true, presence: ['BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED'] }),
  all('ResourceType', 'String', {
    allowsNull: true,
    presence: ['BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED', 'RESOURCE_TYPE_ASSIGNMENT_SUPPORTED'],
  }),
  all('ServiceCategory', 'String', { values: Object.keys(SERVICE_CATEGORIES) }),
  all('ServiceName', 'String'),
  all('ServiceProviderName', 'String', { since: '1.3' }),
  all('ServiceSubcategory', 'String', { presence: 'recommended', values: Object.values(SERVICE_CATEGORIES).flat() }),
  all('SkuId', 'String', SKU),
  all('SkuMeter', 'String', SKU),
  all('SkuPriceDetails', 'JSON', SKU),
  all('SkuPriceId', 'String', SKU),
  all('SubAccountId', 'String', { allowsNull: true, presence: ['SUB_ACCOUNT_SUPPORTED'] }),
  all('SubAccountName', 'String', { allowsNull: true, presence: ['SUB_ACCOUNT_SUPPORTED'] }),
  all('Tags', 'JSON', { allowsNull: true, presence: ['TAGGING_SUPPORTED'] }),
];

/** berth's own columns: after those of FOCUS, and named as it asks. */
export const CUSTOM_COLUMNS = [
  'x_BerthBasis',
  'x_BerthCategory',
  'x_BerthHost',
  'x_BerthOwner',
  'x_BerthProject',
  'x_BerthSource',
] as const;

export function focusColumns(version: FocusVersion): readonly FocusColumn[] {
  return COLUMNS.filter(({ since, until }) => since <= version && (until === undefined || version < until));
}
