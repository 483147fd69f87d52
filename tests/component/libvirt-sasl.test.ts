/** Logins with user and password against a real libvirtd with Cyrus SASL, by every way that leads to it. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { libvirtDriver } from '#fleet';
import { reservePort } from '#platform';
import { snapshotOf } from '../../src/fleet/driver.conformance.ts';
import { type LibvirtOptions, type RunningLibvirt, startLibvirt } from '../harness/libvirt.ts';

const ANN = { user: 'ann', password: 'correct, horse=battery' };
const ZOE = { user: 'zoë', password: 'pässwörd €' };
const USERS = { [ANN.user]: ANN.password, [ZOE.user]: ZOE.password };

async function freePort(): Promise<number> {
  const reserved = await reservePort('tcp', '127.0.0.1', 0);
  await reserved.release();
  return reserved.port;
}

async function serve(mechanisms: string, more: LibvirtOptions = {}): Promise<{ libvirt: RunningLibvirt; url: string }> {
  const tlsPort = await freePort();
  const libvirt = await startLibvirt({ tlsPort, sasl: { mechanisms, users: USERS }, ...more });
  return { libvirt, url: `test+tls://127.0.0.1:${tlsPort}/default?pkipath=${libvirt.folder}/pki` };
}

const open = (url: string, credentials?: { user: string; password: string }, allowPower = false) =>
  libvirtDriver.open({ name: 'x', url: new URL(url), allowPower, credentials }, AbortSignal.timeout(20_000));

/** Everything an error would put into a log or a listing. */
async function refusalOf(opening: Promise<unknown>): Promise<{ kind: string; code: string; words: string }> {
  const error = await opening.then(
    () => assert.fail('it was let in'),
    (one: { kind: string; code: string; hint?: string; facts?: object }) => one,
  );
  return { ...error, words: `${String(error)} ${error.hint} ${JSON.stringify(error.facts)}` };
}

describe('libvirt that asks for SCRAM', () => {
  let libvirt: RunningLibvirt;
  let url: string;
  let tcpPort: number;

  before(async () => {
    tcpPort = await freePort();
    ({ libvirt, url } = await serve('scram-sha-256', { tcpPort }));
  });

  after(() => libvirt.dispose());

  test('over TLS the right password is let in and sees the VMs, also one beyond ASCII', async () => {
    for (const credentials of [ANN, ZOE]) {
      const session = await open(url, credentials);
      assert.deepEqual(
        (await snapshotOf(session)).vms.map((vm) => vm.name),
        ['test'],
      );
      await session.close();
    }
  });

  test('over the unix socket too, with power verbs', async () => {
    const session = await open(`test+unix:///default?socket=${libvirt.socket}`, ANN, true);
    const [vm] = (await snapshotOf(session)).vms;
    assert.ok(vm !== undefined && session.power !== undefined);
    await session.power.act('pause', vm.nativeId);
    await session.power.act('resume', vm.nativeId);
    await session.close();
  });

  test('a wrong password, a wrong user and none at all are said to be that, and no password is in the words', async () => {
    const wrong = { user: 'ann', password: 'wrong-and-secret' };
    for (const credentials of [wrong, { ...wrong, user: 'nobody' }]) {
      const { kind, code, words } = await refusalOf(open(url, credentials));
      assert.deepEqual([kind, code], ['unauthenticated', 'libvirt.login'], words);
      assert.match(words, new RegExp(`refused the login of ${credentials.user} by SCRAM-SHA-256`));
      assert.doesNotMatch(words, /wrong-and-secret/);
    }
    const none = await refusalOf(open(url));
    assert.deepEqual([none.kind, none.code], ['unauthenticated', 'libvirt.no_credentials']);
    assert.match(none.words, /--credentials-file/);
  });

  test('over tcp libvirt offers nothing that does not encrypt, which is said with what to do', async () => {
    const { kind, code, words } = await refusalOf(open(`test+tcp://127.0.0.1:${tcpPort}/default`, ANN));
    assert.deepEqual([kind, code], ['unsupported', 'libvirt.sasl'], words);
    assert.match(words, /qemu\+tls:/);
  });
});

describe('libvirt with other mechanisms', () => {
  test('PLAIN is used over TLS, and not over a socket', async () => {
    const { libvirt, url } = await serve('plain');
    try {
      const session = await open(url, ZOE);
      assert.equal((await snapshotOf(session)).vms.length, 1);
      await session.close();
      const wrong = await refusalOf(open(url, { ...ANN, password: 'wrong' }));
      assert.deepEqual([wrong.kind, wrong.code], ['unauthenticated', 'libvirt.login'], wrong.words);
      const { kind, words } = await refusalOf(open(`test+unix:///default?socket=${libvirt.socket}`, ANN));
      assert.equal(kind, 'unsupported');
      assert.match(words, /offers PLAIN.*PLAIN is used over TLS alone/);
    } finally {
      await libvirt.dispose();
    }
  });

  test('one that knows none of ours is refused with what it offers', async () => {
    const { libvirt, url } = await serve('digest-md5 cram-md5');
    try {
      const { kind, code, words } = await refusalOf(open(url, ANN));
      assert.deepEqual([kind, code], ['unsupported', 'libvirt.sasl'], words);
      assert.match(words, /DIGEST-MD5/);
    } finally {
      await libvirt.dispose();
    }
  });

  test('over tcp without a login the VMs are there, and that nothing is encrypted is said', async () => {
    const tcpPort = await freePort();
    const libvirt = await startLibvirt({ tcpPort });
    try {
      const session = await open(`test+tcp://127.0.0.1:${tcpPort}/default`);
      assert.equal((await snapshotOf(session)).vms.length, 1);
      assert.match((await session.fingerprint()).limits.join(), /not encrypted/);
      await session.close();
    } finally {
      await libvirt.dispose();
    }
  });
});
