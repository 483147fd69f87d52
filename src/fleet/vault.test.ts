import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parseCredentials, Vault } from './vault.ts';

const folder = mkdtempSync(join(tmpdir(), 'berth-vault-'));
after(() => rmSync(folder, { recursive: true }));
const secret = { user: 'root', password: 'correct horse battery' };

test('what is sealed opens with the same key for the same source, and nowhere shows what it is', async () => {
  const path = join(folder, 'one.key');
  const sealed = (await Vault.open(path)).seal(secret, 'a\nqemu:///system');
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.ok(!sealed.toString('latin1').includes('horse'));
  const again = await Vault.open(path);
  assert.deepEqual(again.unseal(sealed, 'a\nqemu:///system'), secret);
  assert.notDeepEqual(again.seal(secret, 'x'), again.seal(secret, 'x'), 'a nonce is used once');
});

test('another source, another key and a flipped bit do not open it', async () => {
  const vault = await Vault.open(join(folder, 'two.key'));
  const sealed = vault.seal(secret, 'a');
  assert.throws(() => vault.unseal(sealed, 'b'), { code: 'vault.closed' });
  const other = await Vault.open(join(folder, 'three.key'));
  assert.throws(() => other.unseal(sealed, 'a'), { code: 'vault.closed' });
  for (const at of [0, 5, 20, sealed.length - 1]) {
    const flipped = Buffer.from(sealed);
    flipped[at] = (flipped[at] ?? 0) ^ 1;
    assert.throws(() => vault.unseal(flipped, 'a'), { code: 'vault.closed' });
  }
  assert.throws(() => vault.unseal(sealed.subarray(0, 10), 'a'), { code: 'vault.closed' });
});

test('a key that others can read, or that is cut short, is refused', async () => {
  const path = join(folder, 'four.key');
  await Vault.open(path);
  chmodSync(path, 0o640);
  await assert.rejects(Vault.open(path), { code: 'vault.exposed' });
  chmodSync(path, 0o600);
  writeFileSync(path, readFileSync(path).subarray(1));
  await assert.rejects(Vault.open(path), { code: 'vault.key' });
});

test('credentials that are not right are named by field, and never repeated', () => {
  assert.throws(
    () => parseCredentials({ user: '', password: 7, token: 'hunter2' }),
    (error: Error) => /user/.test(error.message) && /password/.test(error.message) && !/hunter2/.test(error.message),
  );
});
