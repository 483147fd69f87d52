export { EmptyDisks } from './empty-disks.ts';
export { VOLUME_NAME, type Volume, type VolumeRequest, Volumes } from './volumes.ts';
