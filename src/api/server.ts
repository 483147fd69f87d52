/** berth's own API over HTTP: what is not in the table is left to whoever else serves the socket. */
import * as v from 'valibot';
import { BerthError, decodePathPart, messageOf, STATUS_OF_KIND } from '#base';
import type { IncomingMessage, ServerResponse } from '#platform';
import { REPEATABLE } from './queries.ts';
import type { ApiContext, ApiRoute, Given } from './route.ts';
import { apiRoutes } from './routes.ts';

/** A rate card of many versions; a source with its credentials has less than a kilobyte. */
const MOST_BODY_BYTES = 512 * 1024;
/** Answers before these are berth's own API; the Docker API has the rest of the socket. */
const OWN = /^(?:\/v[0-9]+\.[0-9]+)?(\/berth\/v1\/(?:sources|fleet|cost|openapi\.json)(?:\/.*)?)$/;

/** @returns whether the request is of this API and is being answered. */
export type ApiHandler = (request: IncomingMessage, response: ServerResponse) => boolean;

export function apiHandler(context: ApiContext): ApiHandler {
  const match = matcher(apiRoutes);
  return (request, response) => {
    const [target = '', query = ''] = splitOnce(request.url ?? '/', '?');
    const path = OWN.exec(target)?.[1];
    if (path === undefined) return false;
    answer(context, { match, request, response, path, query: new URLSearchParams(query) }).catch((error: unknown) =>
      fail(context, response, error),
    );
    return true;
  };
}

interface Asked {
  readonly match: ReturnType<typeof matcher>;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly path: string;
  readonly query: URLSearchParams;
}

async function answer(context: ApiContext, asked: Asked): Promise<void> {
  const { route, parameters } = asked.match(asked.request.method ?? 'GET', asked.path);
  const body = await readBody(asked.request);
  const given: Given = {
    parameters,
    query: route.query === undefined ? noQuery(asked.query) : checked(route.query, queryObject(asked.query), 'query'),
    body: route.body === undefined ? undefined : checked(route.body, jsonOf(body), 'body'),
  };
  const result = await route.handle(context, given);
  if (route.answerType !== undefined) sendText(asked.response, route.answerType, String(result));
  else if (route.answer === undefined) asked.response.writeHead(204).end();
  else send(asked.response, route.status ?? 200, result);
}

/** @throws route.unknown (not_found), route.method (unsupported) */
export function matcher(
  routes: readonly ApiRoute[],
): (method: string, path: string) => { route: ApiRoute; parameters: Record<string, string> } {
  const compiled = routes.map((route) => ({
    route,
    names: [...route.path.matchAll(/\{([a-z]+)\}/g)].map(([, name = '']) => name),
    pattern: new RegExp(`^${route.path.replace(/[.]/g, '\\.').replace(/\{[a-z]+\}/g, '([^/]+)')}$`),
  }));
  return (method, path) => {
    const fitting = compiled.flatMap((one) => {
      const found = one.pattern.exec(path);
      return found === null ? [] : [{ ...one, found }];
    });
    const chosen = fitting.find((one) => one.route.method === method);
    if (chosen !== undefined) {
      const parameters = Object.fromEntries(
        chosen.names.map((name, at) => [name, decodePathPart(chosen.found[at + 1] ?? '')]),
      );
      return { route: chosen.route, parameters };
    }
    if (fitting.length === 0) throw new BerthError('not_found', 'route.unknown', `berth's API has no ${path}`);
    const methods = fitting.map((one) => one.route.method).join(', ');
    throw new BerthError('unsupported', 'route.method', `${path} takes ${methods}, not ${method}`);
  };
}

function queryObject(query: URLSearchParams): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const name of new Set(query.keys())) {
    const all = query.getAll(name);
    if (!REPEATABLE.has(name) && all.length > 1)
      throw new BerthError('invalid', 'request.malformed', `${name} is given ${all.length} times`);
    values[name] = REPEATABLE.has(name) ? all : all[0];
  }
  return values;
}

function noQuery(query: URLSearchParams): Record<string, never> {
  const names = [...query.keys()];
  if (names.length > 0) throw new BerthError('invalid', 'request.malformed', `this call takes no ${names.join(', ')}`);
  return {};
}

function checked<Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
  where: string,
): Record<string, unknown> {
  const parsed = v.safeParse(schema, value);
  if (parsed.success) return parsed.output as Record<string, unknown>;
  const problems = parsed.issues.map((issue) => {
    const path = v.getDotPath(issue);
    return path === null ? `the ${where}: ${issue.message}` : `${path} ${issue.message}`;
  });
  throw new BerthError('invalid', 'request.malformed', `the request cannot be understood: ${problems.join('; ')}`);
}

function jsonOf(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    // What was sent may hold a password: it is not repeated, nor is the parser's view of it.
    throw new BerthError('invalid', 'request.malformed', 'the request body is not JSON');
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  await new Promise<void>((resolve, reject) => {
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= MOST_BODY_BYTES) chunks.push(chunk);
      else
        reject(
          new BerthError('invalid', 'request.too_large', `the request body is larger than ${MOST_BODY_BYTES} bytes`),
        );
    });
    request.once('end', resolve);
    request.once('close', () =>
      reject(new BerthError('cancelled', 'request.gone', 'the client left in the middle of the request')),
    );
  });
  return Buffer.concat(chunks);
}

function send(response: ServerResponse, status: number, body: unknown): void {
  const text = `${JSON.stringify(body)}\n`;
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) });
  response.end(text);
}

function sendText(response: ServerResponse, type: string, text: string): void {
  response.writeHead(200, { 'Content-Type': type, 'Content-Length': Buffer.byteLength(text) });
  response.end(text);
}

function fail(context: ApiContext, response: ServerResponse, error: unknown): void {
  if (!(error instanceof BerthError) || error.kind === 'bug')
    context.log(`api: ${error instanceof Error ? (error.stack ?? error.message) : messageOf(error)}`);
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const told = error instanceof BerthError ? error : new BerthError('bug', 'api.failed', messageOf(error));
  const { kind, code, message, hint, facts } = told;
  // A source that is away is not a fault of this server, unlike in Docker's API.
  const status =
    kind === 'unavailable'
      ? 503
      : code === 'request.too_large'
        ? 413
        : code === 'route.method'
          ? 405
          : STATUS_OF_KIND[kind];
  send(response, status, { kind, code, message, hint, facts });
}

function splitOnce(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}
