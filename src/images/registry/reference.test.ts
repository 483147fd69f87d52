import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { canonicalName, familiarName, familiarReference, parseReference } from './reference.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

describe('image names', () => {
  test('are completed as Docker completes them, and shown as people write them', () => {
    const cases: readonly [given: string, canonical: string, familiar: string][] = [
      ['ubuntu', 'docker.io/library/ubuntu:latest', 'ubuntu:latest'],
      ['ubuntu:24.04', 'docker.io/library/ubuntu:24.04', 'ubuntu:24.04'],
      ['docker.io/library/alpine', 'docker.io/library/alpine:latest', 'alpine:latest'],
      ['index.docker.io/me/app', 'docker.io/me/app:latest', 'me/app:latest'],
      ['me/app:v1', 'docker.io/me/app:v1', 'me/app:v1'],
      ['localhost/app', 'localhost/app:latest', 'localhost/app:latest'],
      ['localhost:5000/a:b', 'localhost:5000/a:b', 'localhost:5000/a:b'],
      ['ghcr.io/a/b/c', 'ghcr.io/a/b/c:latest', 'ghcr.io/a/b/c:latest'],
      ['a__b/c-d.e', 'docker.io/a__b/c-d.e:latest', 'a__b/c-d.e:latest'],
      [`ubuntu@${DIGEST}`, `docker.io/library/ubuntu@${DIGEST}`, `ubuntu@${DIGEST}`],
      [`ubuntu:x@${DIGEST}`, 'docker.io/library/ubuntu:x', `ubuntu:x@${DIGEST}`],
      ['[::1]:5000/a', '[::1]:5000/a:latest', '[::1]:5000/a:latest'],
    ];
    for (const [given, canonical, familiar] of cases) {
      const reference = parseReference(given);
      assert.equal(canonicalName(reference), canonical);
      assert.equal(familiarReference(reference), familiar);
    }
    assert.equal(familiarName(`docker.io/library/ubuntu@${DIGEST}`), `ubuntu@${DIGEST}`);
  });

  test('that are none are refused with Docker’s texts', () => {
    for (const bad of [
      '',
      ':x',
      'a:',
      'a:b:c',
      '-a',
      'a/',
      '/a',
      'a//b',
      'a..b',
      'a@sha256:12',
      `a:${'t'.repeat(129)}`,
      'a b',
      '../a',
    ]) {
      assert.throws(() => parseReference(bad), { kind: 'invalid', message: 'invalid reference format' }, bad);
    }
    assert.throws(() => parseReference('Ubuntu'), {
      message: 'invalid reference format: repository name (library/Ubuntu) must be lowercase',
    });
    assert.throws(() => parseReference('a'.repeat(64)), { message: /cannot specify 64-byte hexadecimal strings/ });
  });
});
