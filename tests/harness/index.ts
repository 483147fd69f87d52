export { startTestDaemon, type TestDaemon, type TestDaemonOptions } from './daemon.ts';
