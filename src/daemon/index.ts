export {
  type DaemonStatus,
  daemonLogPath,
  daemonStatus,
  type StartOutcome,
  startDaemonProcess,
  stopDaemonProcess,
} from './control.ts';
export { type Diagnosis, diagnose, type Finding } from './doctor.ts';
export { VERSION } from './version.ts';
