/** The OpenAPI document, made from the routes themselves so that it cannot promise what is not served. Pure. */
import { toJsonSchema } from '@valibot/to-json-schema';
import type * as v from 'valibot';
import { REPEATABLE } from './queries.ts';
import type { ApiRoute } from './route.ts';
import { ProblemSchema } from './schemas.ts';

type Json = Readonly<Record<string, unknown>>;

/** @source OpenAPI 3.1.1 */
export function openApiDocument(routes: readonly ApiRoute[], version: string): Json {
  const paths: Record<string, Record<string, Json>> = {};
  for (const route of routes) {
    const methods = paths[route.path] ?? {};
    methods[route.method.toLowerCase()] = operation(route);
    paths[route.path] = methods;
  }
  return {
    openapi: '3.1.1',
    info: {
      title: "berth's own API",
      version,
      description: "Served on the daemon's unix socket, beside the Docker Engine API.",
    },
    paths,
    components: { schemas: { Problem: schemaOf(ProblemSchema, 'output') } },
  };
}

function operation(route: ApiRoute): Json {
  const success =
    route.answerType !== undefined
      ? { '200': { description: 'the answer', content: { [route.answerType]: { schema: { type: 'string' } } } } }
      : route.answer === undefined
        ? { '204': { description: 'done' } }
        : {
            [String(route.status ?? 200)]: {
              description: 'the answer',
              content: json(schemaOf(route.answer, 'output')),
            },
          };
  return {
    operationId: route.name,
    summary: route.summary,
    parameters: [...pathParameters(route.path), ...queryParameters(route)],
    ...(route.body === undefined
      ? {}
      : { requestBody: { required: true, content: json(schemaOf(route.body, 'input')) } }),
    responses: {
      ...success,
      default: { description: 'a problem', content: json({ $ref: '#/components/schemas/Problem' }) },
    },
  };
}

function json(schema: Json): Json {
  return { 'application/json': { schema } };
}

function pathParameters(path: string): Json[] {
  return [...path.matchAll(/\{([a-z]+)\}/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));
}

function queryParameters(route: ApiRoute): Json[] {
  return Object.entries(route.query?.entries ?? {}).map(([name, schema]) => ({
    name,
    in: 'query',
    required: schema.type !== 'optional',
    schema: schemaOf(schema, 'input'),
    ...(REPEATABLE.has(name) ? { style: 'form', explode: true } : {}),
  }));
}

/** Checks that only code can do are left out: what a client sends is described, the server has the last word. */
function schemaOf(schema: v.GenericSchema, side: 'input' | 'output'): Json {
  const { $schema: _dialect, ...rest } = toJsonSchema(schema, { typeMode: side, errorMode: 'ignore' });
  return rest;
}
