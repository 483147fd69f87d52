export { type BenchVerb, type Report, VERBS, type Verdict } from './report.ts';
export { limitText, renderReport, valueText } from './report-text.ts';
export { type BenchOptions, runBench } from './run-bench.ts';
export { SIDE_IDS, type SideId } from './sides/side-names.ts';
export { renderSvg } from './svg-plot.ts';
