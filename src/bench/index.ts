export { waitUntilCalm } from './machine-guard.ts';
export { type BenchVerb, type Report, VERBS, type Verdict } from './report.ts';
export { limitText, quantity, renderReport, valueText } from './report-text.ts';
export { type BenchOptions, runBench } from './run-bench.ts';
export { SIDE_IDS, type SideId } from './sides/side-names.ts';
export { median, p99 } from './statistics.ts';
export { renderReportsSvg } from './svg-plot.ts';
