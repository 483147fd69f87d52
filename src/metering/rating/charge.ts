/** One line of money. Pure. */
import type { Exact } from '../exact.ts';
import type { MonthName } from '../usage/time-cuts.ts';

export type ChargeCategory = 'usage' | 'fixed' | 'idle' | 'overhead' | 'tax';

/** Whom and what a charge is for; all empty for what belongs to nobody. */
export interface ChargeSubject {
  readonly vm: string | undefined;
  readonly vmName: string | undefined;
  readonly source: string | undefined;
  readonly host: string | undefined;
  readonly project: string | undefined;
  readonly owner: string | undefined;
  readonly tags: Readonly<Record<string, string>>;
}

export interface Charge {
  /** Identity within period and scope: rating the same facts again gives the same key. */
  readonly key: string;
  readonly period: MonthName;
  readonly category: ChargeCategory;
  /** The price item, fixed item or tax of the card. */
  readonly item: string;
  readonly card: string;
  readonly cardVersion: string;
  readonly currency: string;
  readonly resource: string | undefined;
  readonly unit: string | undefined;
  readonly focusUnit: string | undefined;
  /** The step of a tier whose price this is, from 1; only of a tiered item. */
  readonly step?: number;
  readonly subject: ChargeSubject;
  readonly startMs: number;
  readonly endMs: number;
  /** Rounded once, see `Rounding`; absent for taxes, as the two that follow. */
  readonly quantity: Exact | undefined;
  readonly unitPrice: Exact | undefined;
  /** `unitPrice` × `quantity`, exactly. */
  readonly cost: Exact;
  /** How the quantity (of a tax: the cost) came about, in figures that can be recomputed by hand. */
  readonly basis: string;
  /** Set when the charge is a part of something shared. */
  readonly allocation: Allocation | undefined;
}

export interface Allocation {
  /** `idle:vcpu`, `overhead:even`, … */
  readonly method: string;
  /** The part of the whole, a decimal. */
  readonly ratio: string;
}

export const NOBODY: ChargeSubject = {
  vm: undefined,
  vmName: undefined,
  source: undefined,
  host: undefined,
  project: undefined,
  owner: undefined,
  tags: {},
};

/** A key from parts that say what a charge is; its subject's names and tags as well, so that another owner is another charge. */
export function chargeKey(parts: readonly (string | number)[], subject: ChargeSubject): string {
  const tags = Object.entries(subject.tags).sort(([a], [b]) => (a < b ? -1 : 1));
  const { vm, vmName, source, host, project, owner } = subject;
  return JSON.stringify([...parts, vm, vmName, source, host, project, owner, tags.length === 0 ? 0 : tags]);
}

/** A fraction as it is written in a basis: `7200000`, `1/3`. */
export function fractionText(value: Exact): string {
  return value.denominator === 1n ? `${value.numerator}` : `${value.numerator}/${value.denominator}`;
}
