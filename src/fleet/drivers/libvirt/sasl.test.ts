/** What a libvirt that is not what it says gets out of a login: a stand-in that answers as a test says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LibvirtConnection } from './connection.ts';
import type { Frame } from './frames.ts';
import { PROCEDURE } from './procedures.ts';
import { chooseMechanism, type SaslLogin, signInBySasl } from './sasl.ts';
import { LibvirtStandIn, reply } from './stand-in-fixture.ts';
import { XdrReader, XdrWriter } from './xdr.ts';

const PASSWORD = 'known to the true one alone';

function answerOf(isComplete: boolean, text: string): Buffer {
  const writer = new XdrWriter()
    .int(isComplete ? 1 : 0)
    .int(0)
    .uint(text.length);
  for (const byte of Buffer.from(text)) writer.int(byte);
  return writer.bytes();
}

/** What berth said in a frame of the login: in `start` after the mechanism's name. */
function saidIn(frame: Frame): string {
  const reader = new XdrReader(frame.body);
  if (frame.procedure === PROCEDURE.authSaslStart) reader.string();
  assert.equal(reader.int(), 0);
  return Buffer.from(reader.list((one) => one.int() & 0xff)).toString();
}

function signIn(offered: string, answers: readonly ((said: string) => Buffer)[], via: SaslLogin['via'] = 'tls') {
  const standIn = new LibvirtStandIn();
  const left = [...answers];
  standIn.answer = (frame) => {
    if (frame.procedure === PROCEDURE.authSaslInit) return [reply(frame, new XdrWriter().string(offered).bytes())];
    const next = left.shift();
    assert.ok(next !== undefined, `an unexpected call ${frame.procedure}`);
    return [reply(frame, next(saidIn(frame)))];
  };
  const connection = new LibvirtConnection(standIn, { where: 'test:///stand-in', oneAtATime: true });
  const credentials = { user: 'ann', password: PASSWORD };
  const ended = signInBySasl(connection, { where: 'test:///stand-in', via, credentials });
  const wire = (): string => standIn.seen.map((frame) => frame.body.toString('latin1').replaceAll('\0', '')).join();
  return { ended: ended.finally(() => connection.close()), wire, standIn };
}

const challenge = (said: string): Buffer => answerOf(false, `r=${/r=(.*)$/.exec(said)?.[1]}xyz,s=QUJD,i=4096`);

test('one that does not know the password is not believed when it says that the login is complete', async () => {
  const forged = [
    [challenge, () => answerOf(true, 'v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=')],
    [challenge, () => answerOf(true, '')],
    [challenge, () => answerOf(false, 'v=AAAA')],
  ];
  for (const answers of forged)
    await assert.rejects(signIn('SCRAM-SHA-256', answers).ended, { kind: 'unauthenticated', code: 'scram.impostor' });
  await assert.rejects(signIn('SCRAM-SHA-256', [() => answerOf(true, '')]).ended, { code: 'libvirt.malformed' });
  await assert.rejects(signIn('PLAIN', [() => answerOf(false, '')]).ended, { code: 'libvirt.malformed' });
});

test('the password goes over the wire with PLAIN alone, and that over TLS alone', async () => {
  const scram = signIn('PLAIN SCRAM-SHA-256', [challenge, () => answerOf(true, 'v=')]);
  await assert.rejects(scram.ended);
  assert.ok(!scram.wire().includes(PASSWORD));
  const plain = signIn('PLAIN', [() => answerOf(true, '')]);
  await plain.ended;
  assert.ok(plain.wire().includes(PASSWORD));
  for (const via of ['tcp', 'unix', 'ssh'] as const) {
    const { ended, wire } = signIn('PLAIN LOGIN', [], via);
    await assert.rejects(ended, { kind: 'unsupported', code: 'libvirt.sasl', message: /offers PLAIN, LOGIN/ });
    assert.ok(!wire().includes(PASSWORD));
  }
});

test('what is on offer is named, and nothing else that a server writes in its place', async () => {
  const { ended } = signIn('GSSAPI \u001b[2J LOGIN\u0007', [], 'tls');
  await assert.rejects(ended, { code: 'libvirt.sasl', message: /offers GSSAPI for a login/ });
  await assert.rejects(signIn('', []).ended, { code: 'libvirt.sasl', message: /offers no mechanism/ });
});

test('of several mechanisms the strongest that both know is taken, however they are written', () => {
  assert.equal(chooseMechanism('PLAIN SCRAM-SHA-1 SCRAM-SHA-256 GSSAPI', 'tls'), 'SCRAM-SHA-256');
  assert.equal(chooseMechanism('plain,scram-sha-512', 'tcp'), 'SCRAM-SHA-512');
  assert.equal(chooseMechanism('PLAIN', 'tls'), 'PLAIN');
  for (const offered of ['', ' ', 'GSSAPI DIGEST-MD5', 'SCRAM-SHA-256-PLUS', 'toString'])
    assert.equal(chooseMechanism(offered, 'tls'), undefined);
});
