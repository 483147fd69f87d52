export { type DaemonSettings, resolveSettings } from '#base';
