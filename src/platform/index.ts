export { type ChildStreams, spawnStreams } from './child-streams.ts';
export { monotonicMs, nowMs, sleep, startTimer, type Timer } from './clock.ts';
export * as files from './files.ts';
export { availableMemoryBytes, type HostFacts, hostFacts, hostLoad } from './host.ts';
export {
  type DetachedProcess,
  findProcesses,
  hostUptimeMs,
  isAlive,
  killAndWait,
  type ProcessInfo,
  processInfo,
  processMemoryBytes,
  setNice,
  signalProcess,
  spawnDaemon,
  spawnDetached,
  spawnTalking,
  type TalkingProcess,
} from './host-process.ts';
export { readHostUse } from './host-use.ts';
export {
  type HttpRequest,
  type HttpResponse,
  type HttpsConnections,
  httpRequest,
  httpsConnections,
  isLoopbackHost,
  readWhole,
  readWholeText,
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
export { machineUuids } from './machine-uuid.ts';
export { type PipedOptions, spawnPiped } from './piped-process.ts';
export { type RunOptions, type RunResult, runChecked, runInForeground, runProcess } from './process.ts';
export { connectTcp, connectUnix, joinTcp, type PortReservation, reservePort } from './sockets.ts';
export {
  endQuietlyWithoutReaders,
  enterRawMode,
  isTerminal,
  onSignals,
  onTerminalResize,
  standardInput,
  type TerminalSize,
  terminalSize,
  writeTo,
} from './terminal.ts';
export { connectTls, type TlsTarget } from './tls.ts';
export { type TakenOver, type UnixRequest, type UnixResponse, unixRequest, unixUpgrade } from './unix-http.ts';
