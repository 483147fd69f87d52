/** The one place where berth's kinds of error become Docker's HTTP statuses. */
import { BerthError, type ErrorKind, messageOf } from '#base';

const STATUS_OF: Readonly<Record<ErrorKind, number>> = {
  invalid: 400,
  not_found: 404,
  conflict: 409,
  not_modified: 304,
  denied: 403,
  unauthenticated: 401,
  unsupported: 501,
  unavailable: 500,
  timeout: 504,
  cancelled: 499,
  exhausted: 507,
  data_loss: 500,
  bug: 500,
};

/** Codes for which real dockerd answers otherwise than by kind. */
const STATUS_OF_CODE: Readonly<Record<string, number>> = {
  // A process that cannot be started: 400, and the CLI reads 126 or 127 out of the text.
  'process.not_found': 400,
  'process.not_executable': 400,
  'process.unknown_user': 400,
  // Ports: dockerd answers 500 to a start whose port is taken.
  'port.taken': 500,
  'request.too_large': 413,
  'swarm.none': 503,
};

/** Codes whose text clients compare with dockerd's: it stays as it is. */
const EXACT_TEXT: ReadonlySet<string> = new Set(['images.not_found', 'vm.not_found']);

export interface Problem {
  readonly status: number;
  readonly message: string;
}

/** Status and text for the wire. The hint goes with the message: Docker's clients show nothing else. */
export function problemOf(error: unknown): Problem {
  if (!(error instanceof BerthError)) return { status: 500, message: messageOf(error) };
  const status = STATUS_OF_CODE[error.code] ?? STATUS_OF[error.kind];
  const isBare = error.hint === undefined || EXACT_TEXT.has(error.code);
  return { status, message: isBare ? error.message : `${error.message} (${error.hint})` };
}
