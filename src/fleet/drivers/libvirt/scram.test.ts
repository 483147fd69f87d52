import assert from 'node:assert/strict';
import { test } from 'node:test';
import { prepare, ScramClient, type ScramHash } from './scram.ts';

interface Vector {
  readonly hash: ScramHash;
  readonly nonce: string;
  readonly challenge: string;
  readonly proof: string;
  readonly signature: string;
}

/** The examples of RFC 5802 section 5 and RFC 7677 section 3; both are user `user`, password `pencil`. */
const VECTORS: readonly Vector[] = [
  {
    hash: 'sha1',
    nonce: 'fyko+d2lbbFgONRv9qkxdawL',
    challenge: 'r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096',
    proof: 'c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=',
    signature: 'v=rmF9pqV8S7suAoZWja4dJRkFsKQ=',
  },
  {
    hash: 'sha256',
    nonce: 'rOprNGfwEbeRWgbNEkqO',
    challenge: 'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096',
    proof: 'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
    signature: 'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
  },
];

const clientOf = ({ hash, nonce }: Vector, password = 'pencil'): ScramClient =>
  new ScramClient({ hash, nonce, user: 'user', password });

test("the RFCs' examples come out to the letter, and their servers are believed", async () => {
  for (const vector of VECTORS) {
    const client = clientOf(vector);
    assert.equal(client.first(), `n,,n=user,r=${vector.nonce}`);
    assert.equal(await client.answer(vector.challenge), vector.proof);
    client.verify(vector.signature);
  }
});

test('a server that does not know the password is not believed, whatever it sends instead of its signature', async () => {
  for (const vector of VECTORS) {
    const client = clientOf(vector, 'another');
    await client.answer(vector.challenge);
    for (const final of [vector.signature, '', 'v=', 'v=AAAA', 'x=1', `w=1,${vector.signature}`])
      assert.throws(() => client.verify(final), { kind: 'unauthenticated', code: 'scram.impostor' });
    assert.throws(() => client.verify('e=invalid-proof'), { code: 'scram.refused', message: /invalid-proof/ });
    // Before there was a challenge nothing can be right.
    assert.throws(() => clientOf(vector).verify(vector.signature), { code: 'scram.impostor' });
  }
});

test('challenges that are forged, too cheap or too dear are refused', async () => {
  const nonce = 'abc';
  const wrong = [
    'r=abc,s=QQ==,i=4096',
    'r=xyz123,s=QQ==,i=4096',
    'r=abc1,s=,i=4096',
    'r=abc1,s=QQ==,i=1',
    'r=abc1,s=QQ==,i=4095',
    'r=abc1,s=QQ==,i=1000001',
    'r=abc1,s=QQ==,i=9999999999999',
    'r=abc1,s=QQ==,i=-1',
    'm=new,r=abc1,s=QQ==,i=4096',
    'r=ab\u0000c1,s=QQ==,i=4096',
    `r=abc${'x'.repeat(5_000)},s=QQ==,i=4096`,
    '',
  ];
  for (const challenge of wrong) {
    const client = new ScramClient({ hash: 'sha256', nonce, user: 'u', password: 'p' });
    await assert.rejects(client.answer(challenge), { kind: 'invalid', code: 'scram.challenge' }, challenge);
  }
});

test('names are quoted, and two ways to type one text are one', () => {
  const first = (user: string): string => new ScramClient({ hash: 'sha256', nonce: 'n', user, password: 'p' }).first();
  assert.equal(first('a=b,c'), 'n,,n=a=3Db=2Cc,r=n');
  // RFC 4013 section 3, its own examples.
  assert.equal(prepare('I\u00adX', 'user'), 'IX');
  assert.equal(prepare('USER', 'user'), 'USER');
  assert.equal(prepare('\u00aa', 'user'), 'a');
  assert.equal(prepare('\u2168', 'user'), 'IX');
  assert.throws(() => prepare('\u0007', 'password'), { code: 'scram.unfit' });
  assert.equal(prepare('a\u00a0b\u3000c', 'password'), 'a b c');
  assert.equal(prepare('e\u0301', 'password'), prepare('\u00e9', 'password'));
  for (const text of ['', '\u00ad', 'a\u0000b', 'a\nb', '\ue000']) assert.throws(() => prepare(text, 'user'), /user/);
});
