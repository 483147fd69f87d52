/** A rate card as it is worked with: parsed, checked, frozen. `parse-card.ts` makes it. */
import type { Exact, RoundingMode } from '../exact.ts';
import type { Window } from '../usage/time-cuts.ts';
import type { Selector } from './selector.ts';
import type { MonthLength, Resource, Unit } from './units.ts';

export interface RateCard {
  readonly name: string;
  /** ISO 4217. */
  readonly currency: string;
  readonly minorDecimals: number;
  readonly rounding: Rounding;
  /** How long one charge may last: charges are cut at full UTC hours, days or months. */
  readonly chargePer: Window;
  readonly month: MonthLength;
  /** In order of time, without overlaps and gaps. */
  readonly versions: readonly CardVersion[];
  readonly taxes: readonly Tax[];
  readonly attribution: readonly AttributionRule[];
  readonly budgets: readonly Budget[];
}

/**
 * A charge's quantity is rounded once, to `quantityDecimals`; its cost is price × that quantity, exactly, so that
 * anybody can recompute it. A tax is rounded once to the minor unit.
 */
export interface Rounding {
  readonly quantityDecimals: number;
  readonly mode: RoundingMode;
}

/** `[fromMs, toMs)`, UTC milliseconds; no `toMs` for one without an end. */
export interface Validity {
  readonly fromMs: number;
  readonly toMs: number | undefined;
}

export interface CardVersion {
  readonly version: string;
  readonly effective: Validity;
  readonly items: readonly PriceItem[];
  readonly fixed: readonly FixedItem[];
  readonly idle: Sharing;
  readonly overhead: Sharing;
}

/** Items of one resource are asked in the order of the file; the first whose selector matches prices the usage. */
export interface PriceItem {
  readonly id: string;
  readonly resource: Resource;
  readonly unit: Unit;
  readonly pricing: Pricing;
  readonly select: Selector;
}

export type Pricing =
  | { readonly kind: 'flat'; readonly price: Exact }
  | {
      readonly kind: 'tiers';
      /** `graduated`: each part at its step's price. `volume`: everything at the price of the step the month's total reaches. */
      readonly mode: 'graduated' | 'volume';
      /** Whose usage is added up over the calendar month. */
      readonly per: 'vm' | 'project' | 'owner' | 'all';
      readonly steps: readonly TierStep[];
    };

export interface TierStep {
  /** In the item's unit, included in the step; absent in the last. */
  readonly upTo: Exact | undefined;
  readonly price: Exact;
}

/** Licences, support and the like. */
export interface FixedItem {
  readonly id: string;
  readonly per: 'vm-month' | 'project-month' | 'owner-month' | 'host-month';
  readonly price: Exact;
  /** `time`: the part of the month it was there. `none`: the whole month once it was there at all. */
  readonly prorate: 'time' | 'none';
  readonly select: Selector;
}

/**
 * Who pays for capacity of a host that no VM has (idle) or that the host itself needs (overhead), at the prices of the
 * host's vCPU and memory: its VMs by their share, or nobody (`unallocated`, a row of its own). `none`: not priced.
 */
export type Sharing = 'vcpu' | 'memory' | 'even' | 'unallocated' | 'none';
export const SHARINGS: readonly Sharing[] = ['vcpu', 'memory', 'even', 'unallocated', 'none'];

export interface Tax {
  readonly id: string;
  /** A fraction: 0.19 for 19 %. */
  readonly rate: Exact;
  readonly effective: Validity;
  readonly select: Selector;
}

export interface AttributionRule {
  readonly project: string | undefined;
  readonly owner: string | undefined;
  readonly effective: Validity;
  readonly when: Selector;
}

export interface Budget {
  readonly name: string;
  readonly amount: Exact;
  readonly select: Selector;
  readonly alerts: readonly BudgetAlert[];
}

export interface BudgetAlert {
  /** A fraction of the amount: 0.8 for 80 %. */
  readonly at: Exact;
  /** What is compared with it: what the month cost so far, or what it is expected to cost. */
  readonly of: 'actual' | 'forecast';
  readonly notify: AlertTarget;
}

export type AlertTarget =
  | { readonly kind: 'webhook'; readonly url: string }
  | { readonly kind: 'command'; readonly argv: readonly [string, ...string[]] };
