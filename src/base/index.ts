export { type DaemonSettings, resolveSettings } from './daemon-settings.ts';
export { humanDuration } from './durations.ts';
export { BerthError, type BerthErrorOptions, type ErrorKind, errnoOf, messageOf, unreachable } from './errors.ts';
export { STATUS_OF_KIND } from './http-status.ts';
export { type Digest, isDigest, parseDigest, parseVmId, shortId, type VmId } from './ids.ts';
export { decodePathPart } from './path-part.ts';
export { UndoStack } from './undo.ts';
export { formatDecimalBytes, GIB, KIB, MIB } from './units.ts';
