/** Where money keeps what, in its folder of the daemon's state. */
export interface MoneyPlaces {
  /** The rate card in force. Without it nothing is rated. */
  readonly card: string;
  /** A PostgreSQL address instead of the file below; it may hold a password, so only its owner reads it. */
  readonly address: string;
  readonly ledger: string;
  readonly alerts: string;
  readonly summary: string;
  /** Whose VMs are by the card in force. */
  readonly owners: string;
  /** The card a month was closed with: what is found later is priced by that one, whatever the card says by then. */
  closedCard(month: string): string;
}

export function moneyPlaces(folder: string): MoneyPlaces {
  return {
    card: `${folder}/card.yaml`,
    address: `${folder}/ledger-address`,
    ledger: `${folder}/ledger.db`,
    alerts: `${folder}/alerts.json`,
    summary: `${folder}/summary.json`,
    owners: `${folder}/owners.json`,
    closedCard: (month) => `${folder}/card-${month}.yaml`,
  };
}
