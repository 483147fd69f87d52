import * as v from 'valibot';
import { BerthError } from '#base';
import { httpRequest } from '#platform';
import { parseJson } from '../registry/manifest.ts';
import { registryUrl } from '../registry/registry-client.ts';
import { readBody } from '../registry/response-body.ts';
import type { SearchResult } from './image-types.ts';

const SEARCH_MAX_BYTES = 4 * 1024 * 1024;
/** Docker's default and its largest number of results. */
const DEFAULT_LIMIT = 25;
const MAX_LIMIT = 100;
/** A person waits for the list: a search index that says nothing for this long counts as unreachable. Milliseconds. */
const IDLE_MS = 15_000;

const ResultsSchema = v.object({
  results: v.array(
    v.object({
      name: v.string(),
      description: v.nullish(v.string()),
      star_count: v.nullish(v.number()),
      is_official: v.nullish(v.boolean()),
    }),
  ),
});

/** Asks a registry's search index (`host/term` asks that host), Docker Hub's otherwise. Source: registry API v1, `/v1/search`. */
export async function searchImages(
  term: string,
  options: { readonly limit?: number; readonly signal?: AbortSignal } = {},
): Promise<SearchResult[]> {
  const slash = term.indexOf('/');
  const first = slash < 0 ? '' : term.slice(0, slash);
  const isHost = /[.:]/.test(first) || first === 'localhost';
  const url = new URL('v1/search', isHost ? registryUrl(first) : 'https://index.docker.io/');
  url.searchParams.set('q', isHost ? term.slice(slash + 1) : term);
  url.searchParams.set('n', String(Math.min(MAX_LIMIT, Math.max(1, options.limit ?? DEFAULT_LIMIT))));
  const response = await httpRequest({
    url,
    headers: { 'user-agent': 'berth' },
    idleMs: IDLE_MS,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  const body = await readBody(response, SEARCH_MAX_BYTES, 'the list of results');
  if (response.status !== 200) {
    throw new BerthError(
      'unavailable',
      'registry.search_failed',
      `${url.host} answered ${response.status} to a search`,
    );
  }
  return parseJson(ResultsSchema, body, `the answer of ${url.host}`).results.map((result) => ({
    name: result.name,
    description: result.description ?? '',
    starCount: result.star_count ?? 0,
    isOfficial: result.is_official ?? false,
  }));
}
