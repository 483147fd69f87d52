import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BerthError } from '#base';
import { installCommand, installPackages, missingPackages } from './packages.ts';

const there = { name: 'base-files', provides: '/etc/passwd', why: 'always there' };
const absent = { name: 'berth-nosuch', provides: '/nonexistent/program', why: 'a test' };
const nothing = (): void => {};

function refusal(error: unknown): [string, string, string] {
  assert.ok(error instanceof BerthError);
  return [error.code, error.message, error.hint ?? ''];
}

test('only what is missing is named', async () => {
  assert.deepEqual(await missingPackages([there, absent]), [absent]);
});

test('without root a person is told the exact command', async () => {
  const host = { root: false, debian: true, distribution: 'Debian' };
  const [code, message, hint] = refusal(
    await installPackages([absent], host, nothing).catch((error: unknown) => error),
  );
  assert.equal(code, 'setup.needs_root');
  assert.match(message, /berth-nosuch \(a test\)/);
  assert.equal(hint, `run: sudo sh -c '${installCommand([absent])}'`);
  assert.equal(
    installCommand([absent]),
    'apt-get update && apt-get install --yes --no-install-recommends berth-nosuch',
  );
});

test('on another distribution what is missing is named by file', async () => {
  const host = { root: true, debian: false, distribution: 'Fedora Linux 42' };
  const [code, message, hint] = refusal(
    await installPackages([absent], host, nothing).catch((error: unknown) => error),
  );
  assert.equal(code, 'setup.other_distribution');
  assert.match(message, /this is Fedora Linux 42/);
  assert.match(hint, /\/nonexistent\/program \(a test\)/);
});
