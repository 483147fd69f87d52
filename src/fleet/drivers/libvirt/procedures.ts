/**
 * The procedures of libvirt's remote protocol that berth calls, by hand: numbers are append-only, so they hold for
 * every libvirt since the one that brought them.
 *
 * @source libvirt, src/remote/remote_protocol.x (numbers and shapes are facts); checked against libvirt 9.0 by
 *   tests/component/libvirt.test.ts
 */
import type { XdrReader, XdrWriter } from './xdr.ts';

export const REMOTE_PROGRAM = 0x20008086;
export const REMOTE_VERSION = 1;
/** "keep": asks whether the other side is there. @source libvirt, src/rpc/virkeepaliveprotocol.x */
export const KEEPALIVE_PROGRAM = 0x6b656570;
export const KEEPALIVE = { ping: 1, pong: 2 } as const;

export const PROCEDURE = {
  connectOpen: 1,
  connectClose: 2,
  connectGetType: 3,
  connectGetVersion: 4,
  nodeGetInfo: 6,
  connectGetCapabilities: 7,
  domainCreate: 9,
  domainDestroy: 12,
  domainGetXml: 14,
  domainGetInfo: 16,
  domainLookupByUuid: 24,
  domainReboot: 27,
  domainResume: 28,
  domainShutdown: 33,
  domainSuspend: 34,
  connectGetHostname: 59,
  connectSupportsFeature: 60,
  authList: 66,
  authSaslInit: 67,
  authSaslStart: 68,
  authSaslStep: 69,
  authPolkit: 70,
  connectGetLibVersion: 157,
  domainSnapshotCreateXml: 185,
  nodeGetCpuStats: 227,
  nodeGetMemoryStats: 228,
  connectListAllDomains: 273,
  callbackRegister: 316,
  callbackDeregister: 317,
  connectGetAllDomainStats: 344,
  domainInterfaceAddresses: 353,
} as const;

/**
 * Events berth listens to: the id they are registered by and the procedure they come as. The message of each begins
 * with the callback's number and the domain, which is all that is read of it but for the first one.
 */
export const EVENTS = {
  lifecycle: { id: 0, procedure: 318 },
  balloon: { id: 13, procedure: 331 },
  deviceRemoved: { id: 15, procedure: 333 },
  deviceAdded: { id: 19, procedure: 354 },
  metadata: { id: 23, procedure: 379 },
} as const;

/** What follows the domain in a lifecycle event. @source virDomainEventType */
export const LIFECYCLE = {
  defined: 0,
  undefined: 1,
  started: 2,
  suspended: 3,
  resumed: 4,
  stopped: 5,
  shutdown: 6,
  pmSuspended: 7,
  crashed: 8,
} as const;

/** Whether events carry the number of their callback (libvirt 1.3.3 and later). */
export const FEATURE_EVENT_CALLBACKS = 15;
/** VIR_CONNECT_RO: libvirt itself refuses whatever would change something. */
export const OPEN_READ_ONLY = 1;

export const AUTH = { none: 0, sasl: 1, polkit: 2 } as const;

/** Which figures of all domains are wanted: state, processor, memory, network, disks. @source virDomainStatsTypes */
export const STATS_ALL = 1 | 2 | 4 | 16 | 32;

/** @source virErrorNumber */
export const ERROR_CODE = {
  noSupport: 3,
  authFailed: 45,
  noDomain: 42,
  accessDenied: 88,
  operationDenied: 29,
  operationInvalid: 55,
  authCancelled: 79,
  authUnavailable: 80,
} as const;

/** `id` is -1 for a domain that does not run. */
export interface DomainRef {
  readonly name: string;
  readonly uuid: Buffer;
  readonly id: number;
}

export function readDomain(reader: XdrReader): DomainRef {
  return { name: reader.string(), uuid: reader.opaque(16), id: reader.int() };
}

export function writeDomain(writer: XdrWriter, domain: DomainRef): void {
  writer.string(domain.name).opaque(domain.uuid).int(domain.id);
}

export type TypedValue = number | bigint | string | boolean;

/** A list of named values whose types come with them. @source virTypedParameterType */
export function readTypedParameters(reader: XdrReader): Map<string, TypedValue> {
  const values = new Map<string, TypedValue>();
  for (const [name, value] of reader.list((one) => [one.string(), readTyped(one)] as const)) values.set(name, value);
  return values;
}

function readTyped(reader: XdrReader): TypedValue {
  const type = reader.int();
  switch (type) {
    case 1:
      return reader.int();
    case 2:
      return reader.uint();
    case 3:
      return reader.hyper();
    case 4:
      return reader.unsignedHyper();
    case 5:
      return reader.double();
    case 6:
      return reader.int() !== 0;
    default:
      // 7 is a string; for anything newer the length of what follows cannot be known, and reading it so fails cleanly.
      return reader.string();
  }
}

export interface RemoteError {
  readonly code: number;
  readonly message: string;
}

export function readRemoteError(reader: XdrReader): RemoteError {
  const code = reader.int();
  reader.int();
  return { code, message: reader.optional((one) => one.string()) ?? `error ${code}` };
}
