/**
 * What was charged, for good. A period (a UTC month) is open, then closed, never open again.
 *
 * While it is open, recording replaces what was recorded in the same scope: rating may be repeated as facts come in.
 * Once it is closed its rows are never touched: what a later rating finds differently becomes correction rows, booked
 * into an open period and referring to the closed one. Each recording is one transaction and computes its difference
 * from what is there, so that killing it anywhere and running it again neither doubles nor loses a row.
 */
import { BerthError } from '#base';
import type { Charge } from '../rating/charge.ts';
import { isMonthName, type MonthName } from '../usage/time-cuts.ts';

export interface Ledger {
  /** @throws ledger.booking (conflict), ledger.unavailable (unavailable), store.full (exhausted) */
  record(recording: Recording): Promise<RecordingOutcome>;
  /** Safe to repeat: a closed period stays closed at its first time. */
  close(period: MonthName, atMs: number): Promise<Period>;
  period(period: MonthName): Promise<Period>;
  /** Rows booked into `period`: its own charges, and corrections of earlier ones. In the order of recording. */
  entries(period: MonthName): Promise<readonly LedgerEntry[]>;
  disconnect(): Promise<void>;
}

export interface Recording {
  readonly period: MonthName;
  /** Who rates: each scope replaces and corrects its own rows only, so that several collectors share a ledger. */
  readonly scope: string;
  readonly charges: readonly Charge[];
  /** Where corrections go when `period` is closed: an open, later month. */
  readonly bookInto: MonthName;
  readonly atMs: number;
}

export interface RecordingOutcome {
  readonly added: number;
  readonly replaced: number;
  readonly removed: number;
  readonly corrections: number;
}

export interface Period {
  readonly period: MonthName;
  readonly state: 'open' | 'closed';
  readonly closedAtMs: number | undefined;
}

export interface LedgerEntry {
  readonly kind: 'charge' | 'correction';
  /** The month it appears in. */
  readonly bookedInto: MonthName;
  readonly scope: string;
  readonly recordedAtMs: number;
  /** Of a correction: `charge.period` is the closed month, the amounts are differences. */
  readonly charge: Charge;
}

/** @throws ledger.booking (conflict) when corrections would go into the past or into a closed month. */
export function checkBooking(recording: Recording, target: Period): void {
  const { period, bookInto } = recording;
  if (isMonthName(bookInto) && bookInto > period && target.state === 'open') return;
  const why = !isMonthName(bookInto)
    ? 'that is no month'
    : target.state === 'closed'
      ? `${bookInto} is closed as well`
      : `${bookInto} is not later`;
  throw new BerthError(
    'conflict',
    'ledger.booking',
    `corrections of ${period} cannot be booked into ${bookInto}: ${why}`,
    {
      facts: { period, bookInto },
      hint: 'book them into a later month that is still open',
    },
  );
}
