import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseChallenges } from './registry-auth.ts';

describe('WWW-Authenticate', () => {
  test('bearer parameters are read, commas inside quotes included', () => {
    const header = 'Bearer realm="https://auth.example/token",service="a \\"b\\"",scope="repository:x:pull,push"';
    const challenge = parseChallenges(header);
    assert.equal(challenge?.scheme, 'bearer');
    assert.deepEqual(Object.fromEntries(challenge?.parameters ?? []), {
      realm: 'https://auth.example/token',
      service: 'a "b"',
      scope: 'repository:x:pull,push',
    });
  });

  test('of several challenges bearer is taken, and each keeps its own parameters', () => {
    const challenge = parseChallenges('Basic realm="one", Bearer realm="two"');
    assert.deepEqual([challenge?.scheme, challenge?.parameters.get('realm')], ['bearer', 'two']);
    assert.equal(parseChallenges('basic realm=plain')?.scheme, 'basic');
    assert.equal(parseChallenges('Negotiate'), undefined);
    assert.equal(parseChallenges(''), undefined);
  });
});
