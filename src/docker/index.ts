export { apiTable } from './api-table.ts';
export type { DockerContext, SystemFacts } from './context.ts';
export { type DockerEvent, EventLog } from './event-log.ts';
export { Histogram, type Metric, type Sample } from './prometheus.ts';
export { API_VERSION, MIN_API_VERSION, type Route } from './router.ts';
export { allRoutes, serveDocker } from './server.ts';
