/**
 * What XAPI's error codes mean. Pure.
 *
 * An error is a code and texts: `{"code": 1, "message": "VM_BAD_POWER_STATE", "data": ["OpaqueRef:…", "halted", "running"]}`.
 *
 * @source XenAPI wire protocol, JSON-RPC 2.0; error codes of the API reference (names are facts)
 */
import { BerthError, type ErrorKind } from '#base';

const MEANINGS: Readonly<Record<string, readonly [ErrorKind, string]>> = {
  SESSION_AUTHENTICATION_FAILED: ['unauthenticated', 'xapi.login'],
  // The session is over, not the credentials wrong: connecting anew is all it needs.
  SESSION_INVALID: ['unavailable', 'xapi.expired'],
  HOST_IS_SLAVE: ['unavailable', 'xapi.not_master'],
  HOST_STILL_BOOTING: ['unavailable', 'xapi.booting'],
  RBAC_PERMISSION_DENIED: ['denied', 'xapi.denied'],
  RBAC_PERMISSION_DENIED_FRIENDLY: ['denied', 'xapi.denied'],
  USER_IS_NOT_LOCAL_SUPERUSER: ['denied', 'xapi.denied'],
  UUID_INVALID: ['not_found', 'vm.not_found'],
  HANDLE_INVALID: ['not_found', 'vm.not_found'],
  VM_BAD_POWER_STATE: ['conflict', 'xapi.bad_state'],
  OPERATION_NOT_ALLOWED: ['conflict', 'xapi.not_allowed'],
  OTHER_OPERATION_IN_PROGRESS: ['conflict', 'xapi.busy'],
  VM_MISSING_PV_DRIVERS: ['unsupported', 'xapi.no_tools'],
  VM_LACKS_FEATURE: ['unsupported', 'xapi.no_tools'],
  VM_LACKS_FEATURE_SHUTDOWN: ['unsupported', 'xapi.no_tools'],
  HOST_NOT_ENOUGH_FREE_MEMORY: ['exhausted', 'xapi.no_room'],
  NO_HOSTS_AVAILABLE: ['exhausted', 'xapi.no_room'],
  MESSAGE_METHOD_UNKNOWN: ['unsupported', 'xapi.no_method'],
  MESSAGE_PARAMETER_COUNT_MISMATCH: ['unsupported', 'xapi.no_method'],
};

const HINTS: Readonly<Record<string, string>> = {
  'xapi.login': 'remove the source and add it with the right user and password',
  'xapi.denied': 'the role read-only is enough to look; power verbs need vm-operator',
  'xapi.no_tools': "the guest needs Xen's tools for that; stop ends it at once",
};

/** Codes after which the token of event.from is worth nothing. */
const LOST_EVENTS: readonly string[] = ['EVENTS_LOST', 'EVENT_FROM_TOKEN_PARSE_FAILURE'];

export function isLostEvents(error: unknown): boolean {
  return error instanceof BerthError && LOST_EVENTS.includes(String(error.facts['xapi']));
}

/** The address that a pool member names as its master; undefined for other errors. */
export function masterNamedBy(error: unknown): string | undefined {
  const isMember = error instanceof BerthError && error.code === 'xapi.not_master';
  return isMember ? String(error.facts['about']) : undefined;
}

/** @param about - the error's data: what it is about, what was expected, what was found. @param what - the method. */
export function meaningOf(code: string, about: readonly string[], what: string): BerthError {
  const [kind, name] = MEANINGS[code] ?? ['conflict', 'xapi.refused'];
  // A login's error repeats the user's name and, in some versions, what the directory said: not the password.
  const told = about.filter((one) => !one.startsWith('OpaqueRef:')).join(', ');
  const text = `XAPI refused ${what}: ${code.slice(0, 100)}${told === '' ? '' : ` (${told.slice(0, 300)})`}`;
  const hint = HINTS[name];
  return new BerthError(kind, name, text, {
    facts: { xapi: code.slice(0, 100), about: (about[0] ?? '').slice(0, 300) },
    ...(hint === undefined ? {} : { hint }),
  });
}
