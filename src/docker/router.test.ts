import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileRoutes, type Route, splitTarget } from './router.ts';

const routes: Route[] = [
  { method: 'GET', path: '/containers/json', summary: '' },
  { method: 'GET', path: '/containers/{id}/json', summary: '' },
  { method: 'GET', path: '/images/{name...}/json', summary: '' },
  { method: 'POST', path: '/images/{name...}/push', summary: '' },
  { method: 'DELETE', path: '/images/{name...}', summary: '' },
];
const match = compileRoutes(routes);
const found = (method: string, path: string): [string, Record<string, string>] => {
  const { route, parameters } = match(method, path);
  return [route.path, { ...parameters }];
};

test('a parameter is one segment, or as many as it takes', () => {
  assert.deepEqual(found('GET', '/containers/abc/json'), ['/containers/{id}/json', { id: 'abc' }]);
  assert.deepEqual(found('GET', '/images/localhost:5000/a/b:1/json'), [
    '/images/{name...}/json',
    { name: 'localhost:5000/a/b:1' },
  ]);
  assert.deepEqual(found('GET', '/images/hello%40sha256:00/json')[1], { name: 'hello@sha256:00' });
  assert.deepEqual(found('POST', '/images/a/push/push')[1], { name: 'a/push' });
  assert.deepEqual(found('DELETE', '/images/a/b')[1], { name: 'a/b' });
});

test('an exact route wins over a parameter before it in the list only', () => {
  assert.equal(found('GET', '/containers/json')[0], '/containers/json');
});

test('the version prefix is optional and checked', () => {
  assert.deepEqual(match('GET', '/containers/json').version, [1, 50]);
  assert.deepEqual(match('GET', '/v1.24/containers/json').version, [1, 24]);
  assert.throws(() => match('GET', '/v1.51/containers/json'), { code: 'api.too_new' });
  assert.throws(() => match('GET', '/v2.0/containers/json'), { code: 'api.too_new' });
  assert.throws(() => match('GET', '/v1.23/containers/json'), { code: 'api.too_old' });
  assert.throws(() => match('GET', '/v0.99/containers/json'), { code: 'api.too_old' });
});

test('everything else is not found', () => {
  for (const [method, path] of [
    ['GET', '/'],
    ['PUT', '/containers/json'],
    ['GET', '/containers/json/'],
    ['GET', '/containers/a/b/json'],
    ['GET', '/xcontainers/json'],
    ['GET', '/v1.50'],
    ['GET', '/images//json'],
  ] as const) {
    assert.throws(() => match(method, path), { code: 'route.unknown', message: 'page not found' }, `${method} ${path}`);
  }
  assert.throws(() => match('GET', '/containers/%zz/json'), { code: 'route.malformed' });
});

test('a target is split without ever failing', () => {
  const split = (target: string): [string, string] => {
    const { path, query } = splitTarget(target);
    return [path, query.toString()];
  };
  assert.deepEqual(split('/a?b=1&c=%20'), ['/a', 'b=1&c=+']);
  assert.deepEqual(split('//a/../b'), ['/a/../b', '']);
  assert.deepEqual(split('//'), ['/', '']);
  assert.deepEqual(split(''), ['/', '']);
  assert.deepEqual(split('?x'), ['/', 'x=']);
  assert.deepEqual(split('http://docker/_ping?a'), ['/_ping', 'a=']);
  assert.deepEqual(split('*'), ['*', '']);
});
