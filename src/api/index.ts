export {
  CardFactsSchema,
  ClosedSchema,
  CostChargesSchema,
  CostReportSchema,
  type CostSummary,
  CostSummarySchema,
  RatedSchema,
} from './cost-schemas.ts';
export type { MoneyPort } from './money-port.ts';
export { type ApiHandler, apiHandler } from './server.ts';
