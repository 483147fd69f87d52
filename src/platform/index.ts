export { monotonicMs, nowMs, sleep, startTimer, type Timer } from './clock.ts';
export * as files from './files.ts';
export {
  type HttpRequest,
  type HttpResponse,
  httpRequest,
  isLoopbackHost,
  translateHttpError,
} from './http-client.ts';
export { type RunOptions, type RunResult, runChecked, runProcess } from './process.ts';
