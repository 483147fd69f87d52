import type { Ledger } from './ledger.ts';

/** @param place - `postgres://…`, or the path of a SQLite file. Each kind is loaded only when it is meant. */
export async function openLedger(place: string): Promise<Ledger> {
  if (/^postgres(ql)?:\/\//.test(place)) {
    const { openPostgresLedger } = await import('./postgres-ledger.ts');
    return await openPostgresLedger(place);
  }
  const { openSqliteLedger } = await import('./sqlite-ledger.ts');
  return openSqliteLedger(place);
}
