/**
 * A call of berth's own API as a value: what it takes, what it gives, and who does it. The router, the checks of every
 * request and the OpenAPI document are all made from the one table of these.
 */
import type * as v from 'valibot';
import type { Fleet } from '#fleet';
import type { MoneyPort } from './money-port.ts';

export interface ApiContext {
  readonly fleet: Fleet;
  readonly money: MoneyPort;
  readonly version: string;
  readonly log: (line: string) => void;
}

/** Values of a query: each name once, as text; `many` names may be repeated. */
export type QuerySchema = v.GenericSchema<unknown, unknown> & {
  readonly entries: Readonly<Record<string, v.GenericSchema>>;
};

export interface Given {
  readonly parameters: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, unknown>>;
  readonly body: unknown;
}

export interface ApiRoute {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** `{name}` is one path segment. */
  readonly path: string;
  readonly name: string;
  readonly summary: string;
  readonly query?: QuerySchema;
  readonly body?: v.GenericSchema;
  /** What a success answers; absent: 204 and nothing. */
  readonly answer?: v.GenericSchema;
  /** The answer is text of this kind, not JSON. */
  readonly answerType?: string;
  readonly status?: 200 | 201;
  handle(context: ApiContext, given: Given): unknown;
}

/** Ties the types of a route's handler to its schemas. */
export function route<Query extends QuerySchema | undefined, Body extends v.GenericSchema | undefined>(
  definition: Omit<ApiRoute, 'handle' | 'query' | 'body'> & {
    readonly query?: Query;
    readonly body?: Body;
    handle(
      context: ApiContext,
      given: {
        readonly parameters: Readonly<Record<string, string>>;
        readonly query: Query extends QuerySchema ? v.InferOutput<Query> : Readonly<Record<string, never>>;
        readonly body: Body extends v.GenericSchema ? v.InferOutput<Body> : undefined;
      },
    ): unknown;
  },
): ApiRoute {
  return definition as unknown as ApiRoute;
}
