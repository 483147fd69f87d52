import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { readDockerCredentials } from './docker-credentials.ts';

describe('credentials of docker login', () => {
  let folder = '';
  let path = process.env.PATH;
  const write = (config: unknown): Promise<void> => writeFile(join(folder, 'config.json'), JSON.stringify(config));

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'berth-credentials-test-'));
    const helper = `#!/bin/sh
read server
case "$1 $server" in
  "get known.example") echo '{"ServerURL":"known.example","Username":"u","Secret":"s"}' ;;
  "get token.example") echo '{"Username":"<token>","Secret":"t"}' ;;
  "get broken.example") echo 'the keyring is locked' >&2; exit 1 ;;
  *) echo 'credentials not found in native keychain'; exit 1 ;;
esac
`;
    await writeFile(join(folder, 'docker-credential-test'), helper, { mode: 0o755 });
    path = process.env.PATH;
    process.env.PATH = `${folder}:${path}`;
  });

  after(async () => {
    process.env.PATH = path;
    await rm(folder, { recursive: true, force: true });
  });

  test('without a configuration there are none', async () => {
    assert.equal(await readDockerCredentials('docker.io', join(folder, 'nowhere')), undefined);
  });

  test('are found by host, and Docker Hub’s under its old name', async () => {
    const auth = Buffer.from('me:pass:word').toString('base64');
    await write({
      auths: {
        'https://index.docker.io/v1/': { auth },
        'https://reg.example:5000/v2/': { auth },
        'i.example': { identitytoken: 'id' },
      },
    });
    const expected = { username: 'me', password: 'pass:word' };
    assert.deepEqual(await readDockerCredentials('docker.io', folder), expected);
    assert.deepEqual(await readDockerCredentials('reg.example:5000', folder), expected);
    assert.deepEqual(await readDockerCredentials('i.example', folder), { identityToken: 'id' });
    assert.equal(await readDockerCredentials('other.example', folder), undefined);
  });

  test('are asked of a helper, which may have none, an identity token, or a failure', async () => {
    await write({ credsStore: 'test' });
    assert.deepEqual(await readDockerCredentials('known.example', folder), { username: 'u', password: 's' });
    assert.deepEqual(await readDockerCredentials('token.example', folder), { identityToken: 't' });
    assert.equal(await readDockerCredentials('unknown.example', folder), undefined);
    await assert.rejects(readDockerCredentials('broken.example', folder), /the keyring is locked/);
    await write({ credHelpers: { 'known.example': '../../bin/sh' } });
    await assert.rejects(readDockerCredentials('known.example', folder), { kind: 'invalid' });
  });
});
