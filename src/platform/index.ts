export { monotonicMs, nowMs, sleep, startTimer, type Timer } from './clock.ts';
export * as files from './files.ts';
export { type HostFacts, hostFacts } from './host.ts';
export {
  type DetachedProcess,
  findProcesses,
  isAlive,
  killAndWait,
  type ProcessInfo,
  processInfo,
  signalProcess,
  spawnDetached,
} from './host-process.ts';
export {
  type HttpRequest,
  type HttpResponse,
  httpRequest,
  isLoopbackHost,
  translateHttpError,
} from './http-client.ts';
export {
  type HttpHandlers,
  type IncomingMessage,
  plainResponse,
  type Server,
  type ServerResponse,
  type Socket,
  serveHttp,
} from './http-server.ts';
export { type RunOptions, type RunResult, runChecked, runProcess } from './process.ts';
export { connectUnix, type PortReservation, reservePort } from './sockets.ts';
