export { Exact } from './exact.ts';
export { BERTH_CRITERIA, FOCUS_VERSIONS, type FocusVersion } from './focus/columns.ts';
export { type FocusCharge, focusTable } from './focus/focus-rows.ts';
export { focusMetadata } from './focus/metadata.ts';
export { readModel } from './focus/model.ts';
export { readCsv } from './focus/read-csv.ts';
export { berthModel } from './focus/rules.ts';
export { type ModelVerdict, type RuleVerdict, runModel } from './focus/run-model.ts';
export { focusCsv, focusJson, focusParquet } from './focus/write-table.ts';
export { readCharge, writeCharge } from './ledger/charge-document.ts';
export type { Ledger } from './ledger/ledger.ts';
export { openLedger } from './ledger/open-ledger.ts';
export type { AttributionRule, RateCard } from './rate-card/card.ts';
export { loadRateCard } from './rate-card/parse-card.ts';
export type { Selector } from './rate-card/selector.ts';
export { attributed, endsOf } from './rating/attribution.ts';
export { type Rating, rate } from './rating/rate.ts';
export { type BudgetState, budgetStates } from './reports/budgets.ts';
export { type Comparison, compare } from './reports/compare.ts';
export { spreadsheetLine } from './reports/csv.ts';
export { deliverAlerts } from './reports/deliver-alerts.ts';
export { explain, explanationText } from './reports/explain.ts';
export { forecast, knownAt } from './reports/forecast.ts';
export { monthPage } from './reports/html/page.ts';
export {
  COST_PARTS,
  type CostParts,
  DIMENSIONS,
  type Dimension,
  type Report,
  type ReportedCharge,
  reportOf,
  selected,
} from './reports/report.ts';
export { addSamples, consumptionFrom } from './samples/consumption-store.ts';
export { openSampleStore } from './samples/sample-store.ts';
export type { UsageFacts } from './usage/facts.ts';
export { readCardText, readUsageFile } from './usage/read-usage-file.ts';
export { isMonthName, monthOf, monthSpan, monthsBetween, timeText } from './usage/time-cuts.ts';
export { UsageReader } from './usage/usage-file.ts';
