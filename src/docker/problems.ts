/** Errors in the words and statuses of Docker's API. */
import { BerthError, messageOf, STATUS_OF_KIND } from '#base';

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
  const status = STATUS_OF_CODE[error.code] ?? STATUS_OF_KIND[error.kind];
  const isBare = error.hint === undefined || EXACT_TEXT.has(error.code);
  return { status, message: isBare ? error.message : `${error.message} (${error.hint})` };
}
