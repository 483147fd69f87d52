import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { apiTable } from './api-table.ts';

test('docs/docker-api.md is what the routes say', () => {
  const written = readFileSync(new URL('../../docs/docker-api.md', import.meta.url), 'utf8');
  assert.equal(written, apiTable(), 'docs/docker-api.md is out of date: run node scripts/docker-api-table.ts');
});

test('a route with a handler is supported, one without is not yet, a refusal is left out', () => {
  const text = apiTable([
    { method: 'GET', path: '/containers/json', summary: 'list', handle: () => {} },
    { method: 'POST', path: '/images/{name...}/push', summary: 'push' },
    { method: 'GET', path: '/swarm', summary: 'swarm', handle: () => {}, isRefusal: true },
  ]);
  assert.match(text, /\| GET \| `\/containers\/json` \| yes \| list \|/);
  assert.match(text, /\| POST \| `\/images\/\{name\}\/push` \| not yet \| push \|/);
  assert.match(text, /1 endpoints are served, 1 are not yet/);
  assert.doesNotMatch(text, /\/swarm/);
});
