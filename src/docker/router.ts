/**
 * From method and path to a route. Routes are a table; `docs/docker-api.md` is generated from it.
 *
 * `{name}` in a pattern is one path segment; `{name...}` as many as it takes (image names hold slashes). Every route is
 * served with and without a version prefix.
 */
import { BerthError, decodePathPart } from '#base';
import type { Call } from './call.ts';

export const API_VERSION: readonly [number, number] = [1, 50];
export const MIN_API_VERSION: readonly [number, number] = [1, 24];

export interface Route {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  /** What it is for, in the words of the table in docs/. */
  readonly summary: string;
  /** Absent: the endpoint is Docker's but not berth's yet; it answers 501. */
  readonly handle?: (call: Call) => Promise<void> | void;
  /** Handled only to be refused in dockerd's words. */
  readonly isRefusal?: boolean;
}

export interface Match {
  readonly route: Route;
  readonly parameters: Readonly<Record<string, string>>;
  readonly version: readonly [number, number];
}

interface Compiled {
  readonly route: Route;
  readonly pattern: RegExp;
  readonly names: readonly string[];
}

export function compileRoutes(routes: readonly Route[]): (method: string, path: string) => Match {
  const compiled = routes.map(compile);
  return (method, path) => {
    const { version, rest } = splitVersion(path);
    for (const { route, pattern, names } of compiled) {
      if (route.method !== method) continue;
      const found = pattern.exec(rest);
      if (found === null) continue;
      const parameters = Object.fromEntries(names.map((name, index) => [name, decodePathPart(found[index + 1] ?? '')]));
      return { route, parameters, version };
    }
    throw new BerthError('not_found', 'route.unknown', 'page not found');
  };
}

function compile(route: Route): Compiled {
  const names: string[] = [];
  const source = route.path.replace(/\{([a-z]+)(\.\.\.)?\}/gi, (_whole, name: string, many: string | undefined) => {
    names.push(name);
    return many === undefined ? '([^/]+)' : '(.+)';
  });
  return { route, names, pattern: new RegExp(`^${source}$`) };
}

/** A request target's path and query. By hand: the URL class refuses targets such as `//` and folds `..` away. */
export function splitTarget(target: string): { readonly path: string; readonly query: URLSearchParams } {
  const local = target.replace(/^https?:\/\/[^/]*/, '').replace(/^\/+/, '/');
  const mark = local.indexOf('?');
  const path = mark < 0 ? local : local.slice(0, mark);
  return { path: path === '' ? '/' : path, query: new URLSearchParams(mark < 0 ? '' : local.slice(mark + 1)) };
}

/** @throws api.too_new, api.too_old (invalid), in dockerd's words. */
function splitVersion(path: string): { version: readonly [number, number]; rest: string } {
  const found = /^\/v([0-9]+)\.([0-9]+)(\/.*)$/.exec(path);
  if (found === null) return { version: API_VERSION, rest: path };
  const version = [Number(found[1]), Number(found[2])] as const;
  const compare = (a: readonly [number, number], b: readonly [number, number]): number => a[0] - b[0] || a[1] - b[1];
  if (compare(version, API_VERSION) > 0) {
    const text = `client version ${version.join('.')} is too new. Maximum supported API version is ${API_VERSION.join('.')}`;
    throw new BerthError('invalid', 'api.too_new', text);
  }
  if (compare(version, MIN_API_VERSION) < 0) {
    const text = `client version ${version.join('.')} is too old. Minimum supported API version is ${MIN_API_VERSION.join('.')}, please upgrade your client to a newer version`;
    throw new BerthError('invalid', 'api.too_old', text);
  }
  return { version, rest: found[3] ?? '/' };
}
