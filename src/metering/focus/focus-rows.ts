/** Charges as rows of FOCUS's Cost and Usage dataset. Pure. */
import { Exact } from '../exact.ts';
import type { Allocation, Charge } from '../rating/charge.ts';
import type { ReportedCharge } from '../reports/report.ts';
import { monthSpan } from '../usage/time-cuts.ts';
import { CUSTOM_COLUMNS, type FocusVersion, focusColumns } from './columns.ts';

export interface FocusTable {
  readonly columns: readonly { readonly name: string; readonly type: 'String' | 'Decimal' | 'DateTime' | 'JSON' }[];
  /** In the order of the columns; decimals are plain decimal text. */
  readonly rows: readonly (readonly (string | null)[])[];
}

/** Who charges, and how. */
export interface FocusIssuer {
  readonly name: string;
  readonly accountId: string;
  readonly accountName: string;
}

/** A charge and where it is booked; `invoiceId` once that month is closed. */
export interface FocusCharge extends ReportedCharge {
  readonly bookedInto: string;
  readonly invoiceId: string | undefined;
}

export function focusTable(charges: readonly FocusCharge[], issuer: FocusIssuer, version: FocusVersion): FocusTable {
  const columns = [
    ...focusColumns(version).map(({ name, type }) => ({ name, type })),
    ...CUSTOM_COLUMNS.map((name) => ({ name, type: 'String' as const })),
  ];
  const rows = charges.map((charge) => {
    const values = {
      ...whatIsCharged(charge, version),
      ...whoCharges(charge, issuer),
      ...forWhom(charge, version),
      ...amounts(charge),
    };
    return columns.map(({ name }) => values[name] ?? null);
  });
  return { columns, rows };
}

type Values = Record<string, string | null | undefined>;

interface Service {
  readonly category: string;
  readonly subcategory: string;
  readonly name: string;
}

const SERVICES: Readonly<Record<string, Service>> = {
  disk: { category: 'Storage', subcategory: 'Block Storage', name: 'Virtual Disks' },
  'provisioned-iops': { category: 'Storage', subcategory: 'Block Storage', name: 'Virtual Disks' },
  'disk-operations': { category: 'Storage', subcategory: 'Block Storage', name: 'Virtual Disks' },
  address: { category: 'Networking', subcategory: 'Network Infrastructure', name: 'Virtual Networks' },
  'network-in': { category: 'Networking', subcategory: 'Network Infrastructure', name: 'Virtual Networks' },
  'network-out': { category: 'Networking', subcategory: 'Network Infrastructure', name: 'Virtual Networks' },
};
const COMPUTE: Service = { category: 'Compute', subcategory: 'Virtual Machines', name: 'Virtual Machines' };
const OTHER: Service = { category: 'Other', subcategory: 'Other (Other)', name: 'Fixed Items and Taxes' };

function whatIsCharged({ charge, isCorrection }: FocusCharge, version: FocusVersion): Values {
  const { subject, category } = charge;
  const service =
    category === 'fixed' || category === 'tax' ? OTHER : (SERVICES[charge.resource?.split(':')[0] ?? ''] ?? COMPUTE);
  const hostId =
    subject.source === undefined || subject.host === undefined ? null : `${subject.source}/${subject.host}`;
  const split = isSplitRow(charge, version) ? charge.allocation : undefined;
  const isSplit = split !== undefined;
  const isVm = subject.vm !== undefined && !isSplit;
  const tags = Object.keys(subject.tags).length === 0 ? null : JSON.stringify(subject.tags);
  return {
    ChargeCategory: category === 'tax' ? 'Tax' : category === 'fixed' ? 'Purchase' : 'Usage',
    ChargeClass: isCorrection ? 'Correction' : null,
    ChargeDescription: `${charge.category === 'usage' ? '' : `${charge.category}: `}${charge.item} (${charge.card} ${charge.cardVersion})`,
    ChargeFrequency: category === 'tax' ? 'One-Time' : category === 'fixed' ? 'Recurring' : 'Usage-Based',
    ChargePeriodStart: timeText(Math.floor(charge.startMs / 1000)),
    ChargePeriodEnd: timeText(Math.ceil(charge.endMs / 1000)),
    ServiceCategory: service.category,
    ServiceSubcategory: service.subcategory,
    ServiceName: service.name,
    ResourceId: isVm ? subject.vm : hostId,
    ResourceName: isVm ? subject.vmName : subject.host,
    ResourceType: isVm ? 'Virtual Machine' : hostId === null ? null : 'Host',
    Tags: isSplit ? null : tags,
    AllocatedMethodId: split?.method,
    // A number with all its digits: JSON.stringify knows none such.
    AllocatedMethodDetails: split && `{"Elements":[{"AllocatedRatio":${Exact.from(split.ratio)}}]}`,
    AllocatedResourceId: isSplit ? subject.vm : null,
    AllocatedResourceName: isSplit ? (subject.vmName ?? subject.vm) : null,
    AllocatedTags: isSplit ? tags : null,
    x_BerthBasis: charge.basis,
    x_BerthCategory: category,
    x_BerthHost: subject.host,
    x_BerthOwner: subject.owner,
    x_BerthProject: subject.project,
    x_BerthSource: subject.source,
  };
}

/** From 1.3 on a shared part is of the host, as the host's own row would be; the `Allocated` columns say which VM it is for. */
function isSplitRow(charge: Charge, version: FocusVersion): charge is Charge & { readonly allocation: Allocation } {
  return charge.allocation !== undefined && version !== '1.2';
}

/** A host is of no project; whose a part of it is `x_BerthProject` says. */
function forWhom({ charge, invoiceId }: FocusCharge, version: FocusVersion): Values {
  const project = isSplitRow(charge, version) ? undefined : charge.subject.project;
  return {
    SubAccountId: project,
    SubAccountName: project,
    InvoiceDetailId: invoiceId === undefined ? null : `${invoiceId}/${project ?? '-'}`,
  };
}

function whoCharges({ charge, bookedInto, invoiceId }: FocusCharge, issuer: FocusIssuer): Values {
  const period = monthSpan(bookedInto);
  return {
    BillingAccountId: issuer.accountId,
    BillingAccountName: issuer.accountName,
    BillingCurrency: charge.currency,
    BillingPeriodStart: timeText(period.startMs / 1000),
    BillingPeriodEnd: timeText(period.endMs / 1000),
    InvoiceId: invoiceId,
    InvoiceIssuerName: issuer.name,
    ProviderName: issuer.name,
    PublisherName: issuer.name,
    ServiceProviderName: issuer.name,
    // Nobody hosts a tax.
    HostProviderName: charge.category === 'tax' ? null : issuer.name,
  };
}

function amounts({ charge }: FocusCharge): Values {
  const cost = charge.cost.toString();
  const costs = { BilledCost: cost, ContractedCost: cost, EffectiveCost: cost, ListCost: cost };
  const { quantity, unitPrice, item, card, step } = charge;
  if (quantity === undefined || unitPrice === undefined) return costs;
  const isUsage = charge.category !== 'fixed';
  const unit = charge.focusUnit ?? null;
  return {
    ...costs,
    ListUnitPrice: unitPrice.toString(),
    PricingQuantity: quantity.toString(),
    PricingUnit: unit,
    ConsumedQuantity: isUsage ? quantity.toString() : null,
    ConsumedUnit: isUsage ? unit : null,
    SkuId: `${card}/${item}`,
    SkuMeter: charge.resource ?? item,
    // Steps of a tier are prices of their own; a price stays itself when it rises.
    SkuPriceId: step === undefined ? `${card}/${item}` : `${card}/${item}/step-${step}`,
  };
}

function timeText(seconds: number): string {
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`;
}
