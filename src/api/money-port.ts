/** Who reckons what VMs cost: the daemon connects it. */
import type * as v from 'valibot';
import type {
  CardFactsSchema,
  CardTextSchema,
  ClosedSchema,
  CostChargesSchema,
  CostReportSchema,
  CostStatusSchema,
  RatedSchema,
} from './cost-schemas.ts';

/** What reckons, as far as this API asks it. */
export interface MoneyPort {
  status(): Promise<v.InferOutput<typeof CostStatusSchema>>;
  setCard(card: string): Promise<v.InferOutput<typeof CardFactsSchema>>;
  card(): Promise<v.InferOutput<typeof CardTextSchema>>;
  removeCard(): Promise<void>;
  setLedger(address: string | undefined): Promise<void>;
  rate(months: readonly string[]): Promise<v.InferOutput<typeof RatedSchema>>;
  closeMonth(month: string): Promise<v.InferOutput<typeof ClosedSchema>>;
  report(question: {
    readonly months: string[];
    readonly by: string[];
    readonly zone: string;
  }): Promise<v.InferOutput<typeof CostReportSchema>>;
  charges(months: readonly string[]): Promise<v.InferOutput<typeof CostChargesSchema>>;
  page(month: string, zone: string): Promise<string>;
}
