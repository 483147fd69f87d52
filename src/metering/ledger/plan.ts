/** What a recording changes, from what the ledger holds. Pure; both ledgers carry it out. */
import { Exact } from '../exact.ts';
import type { Charge } from '../rating/charge.ts';
import { readCharge, writeCharge } from './charge-document.ts';

/** A stored row of the recording's period and scope, corrections of it included, in the order of recording. */
export interface StoredRow {
  readonly kind: 'charge' | 'correction';
  /** The charge's key; of a correction, of the charge it corrects. */
  readonly key: string;
  readonly document: string;
}

export interface NewRow {
  readonly key: string;
  readonly document: string;
}

/** For an open period. */
export interface Replacement {
  readonly add: readonly NewRow[];
  readonly replace: readonly NewRow[];
  readonly remove: readonly string[];
}

export function planReplacement(stored: readonly StoredRow[], charges: readonly Charge[]): Replacement {
  const known = new Map(stored.map((row) => [row.key, row.document]));
  const wanted = new Map(charges.map((charge) => [charge.key, writeCharge(charge)]));
  const rows = [...wanted].map(([key, document]) => ({ key, document }));
  return {
    add: rows.filter(({ key }) => !known.has(key)),
    replace: rows.filter(({ key, document }) => known.has(key) && known.get(key) !== document),
    remove: [...known.keys()].filter((key) => !wanted.has(key)),
  };
}

/**
 * For a closed period: rows that lead from what is booked, earlier corrections included, to what should be. At one price
 * the difference of quantities; when the price changed, the old amount taken back and the new one charged, so that
 * price × quantity = cost holds in every row.
 */
export function planCorrections(stored: readonly StoredRow[], charges: readonly Charge[]): Charge[] {
  const booked = new Map<string, Charge[]>();
  for (const row of stored) {
    const rows = booked.get(row.key) ?? [];
    rows.push(readCharge(row.document));
    booked.set(row.key, rows);
  }
  const wanted = new Map(charges.map((charge) => [charge.key, charge]));
  const keys = new Set([...booked.keys(), ...wanted.keys()]);
  return [...keys].sort().flatMap((key) => differences(booked.get(key) ?? [], wanted.get(key)));
}

function differences(booked: readonly Charge[], wanted: Charge | undefined): Charge[] {
  const rows = wanted === undefined ? booked : [...booked, wanted];
  const prices = [...new Set(rows.map((row) => row.unitPrice?.toString() ?? ''))];
  return prices.flatMap((price): Charge[] => {
    const ofPrice = booked.filter((row) => (row.unitPrice?.toString() ?? '') === price);
    const now = wanted !== undefined && (wanted.unitPrice?.toString() ?? '') === price ? wanted : undefined;
    const cost = (now?.cost ?? Exact.zero).minus(sum(ofPrice.map((row) => row.cost)));
    const quantity = (now?.quantity ?? Exact.zero).minus(sum(ofPrice.map((row) => row.quantity ?? Exact.zero)));
    const model = now ?? ofPrice[0];
    if (model === undefined || (cost.isZero && quantity.isZero)) return [];
    const basis =
      now === undefined
        ? `taken back: ${model.basis}`
        : `corrected by ${price === '' ? cost : quantity}; now: ${now.basis}`;
    return [{ ...model, quantity: model.quantity === undefined ? undefined : quantity, cost, basis }];
  });
}

function sum(values: readonly Exact[]): Exact {
  return values.reduce((total, value) => total.plus(value), Exact.zero);
}
