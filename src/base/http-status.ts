import type { ErrorKind } from './errors.ts';

/** The one place where berth's kinds of error become HTTP statuses, Docker's. */
export const STATUS_OF_KIND: Readonly<Record<ErrorKind, number>> = {
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
