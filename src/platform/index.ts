export { monotonicMs, nowMs, sleep, startTimer, type Timer } from './clock.ts';
export * as files from './files.ts';
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
export { type RunOptions, type RunResult, runChecked, runProcess } from './process.ts';
export { connectUnix, type PortReservation, reservePort } from './sockets.ts';
