/**
 * A login with SASL over libvirt's protocol.
 *
 *     init ──▶ mechanisms on offer ──▶ start(mechanism, first) ──▶ step … ──▶ complete
 *
 * The user's password goes over the wire with PLAIN alone, and with that only where TLS has proved who listens. Over a
 * connection without encryption SCRAM keeps the password from listeners; what is said afterwards they can read and change.
 * libvirt itself wants encryption by the mechanism there (SSF 56), which none of ours has.
 *
 * @source libvirt, src/remote/remote_protocol.x (shapes), src/remote/remote_daemon_dispatch.c (what it wants of which transport);
 *   RFC 4616 (PLAIN)
 */
import { randomBytes } from 'node:crypto';
import { BerthError } from '#base';
import type { Credentials } from '../../driver.ts';
import type { LibvirtConnection } from './connection.ts';
import { PROCEDURE } from './procedures.ts';
import { prepare, ScramClient, type ScramHash } from './scram.ts';
import { type XdrReader, XdrWriter } from './xdr.ts';

const SCRAM: Readonly<Record<string, ScramHash>> = {
  'SCRAM-SHA-512': 'sha512',
  'SCRAM-SHA-256': 'sha256',
  'SCRAM-SHA-1': 'sha1',
};
const NONCE_BYTES = 24;

export interface SaslLogin {
  /** For messages. */
  readonly where: string;
  readonly via: 'unix' | 'tls' | 'ssh' | 'tcp';
  readonly credentials: Credentials | undefined;
}

/** One side's message of an exchange; undefined for none, which is not the same as an empty one. */
type Message = Buffer | undefined;

interface Answer {
  readonly isComplete: boolean;
  readonly message: Message;
}

/**
 * @throws libvirt.sasl (unsupported) naming what is offered; libvirt.no_credentials, libvirt.login, scram.impostor
 *   (unauthenticated); what the connection throws.
 */
export async function signInBySasl(connection: LibvirtConnection, login: SaslLogin): Promise<void> {
  const { where, via, credentials } = login;
  const offered = await mechanismsOf(connection);
  const mechanism = chooseMechanism(offered, via);
  if (mechanism === undefined) throw nothingInCommon(offered, login);
  if (credentials === undefined)
    throw new BerthError('unauthenticated', 'libvirt.no_credentials', `libvirt at ${where} wants a user and password`, {
      hint: 'remove the source and add it with --credentials-file or --user',
    });
  try {
    const hash = SCRAM[mechanism];
    if (hash === undefined) await plain(connection, credentials);
    else await scram(connection, { mechanism, hash, credentials });
  } catch (error) {
    if (!(error instanceof BerthError) || error.kind !== 'unauthenticated' || error.code !== 'libvirt.login')
      throw error;
    const text = `libvirt at ${where} refused the login of ${credentials.user} by ${mechanism}`;
    throw new BerthError('unauthenticated', 'libvirt.login', text, {
      hint: `is the password right, and is the user known there ("sasldblistusers2") and in sasl_allowed_username_list?`,
      cause: error,
    });
  }
}

/** One that has no mechanism left for this transport says that the login failed, before there was any. */
async function mechanismsOf(connection: LibvirtConnection): Promise<string> {
  try {
    return (await connection.call(PROCEDURE.authSaslInit)).string().slice(0, 1_000);
  } catch (error) {
    if (error instanceof BerthError && error.code === 'libvirt.login') return '';
    throw error;
  }
}

/** The strongest that both know. Pure. */
export function chooseMechanism(offered: string, via: SaslLogin['via']): string | undefined {
  const there = offered.toUpperCase().split(/[\s,]+/);
  const ours = [...Object.keys(SCRAM), ...(via === 'tls' ? ['PLAIN'] : [])];
  return ours.find((one) => there.includes(one));
}

function nothingInCommon(offered: string, { where, via }: SaslLogin): BerthError {
  // As mechanisms are named (RFC 4422 section 3.1): what else a server writes there is not shown to a terminal.
  const listed = offered.split(/[\s,]+/).filter((one) => /^[A-Za-z0-9_-]{1,20}$/.test(one));
  const there = listed.length === 0 ? 'no mechanism' : listed.join(', ');
  const text = `libvirt at ${where} offers ${there} for a login; berth knows ${Object.keys(SCRAM).join(', ')}${via === 'tls' ? ' and PLAIN' : ''}`;
  const hints: Readonly<Record<SaslLogin['via'], string>> = {
    tcp: 'over tcp libvirt wants the login to encrypt, which these do not: reach it by qemu+tls:// or qemu+ssh://',
    tls: 'set "mech_list: scram-sha-256" in /etc/sasl2/libvirt.conf there',
    unix: 'set "mech_list: scram-sha-256" in /etc/sasl2/libvirt.conf; PLAIN is used over TLS alone',
    ssh: 'set "mech_list: scram-sha-256" in /etc/sasl2/libvirt.conf there; PLAIN is used over TLS alone',
  };
  return new BerthError('unsupported', 'libvirt.sasl', text, {
    hint: hints[via],
    facts: { offered: listed.join(' ') },
  });
}

async function plain(connection: LibvirtConnection, { user, password }: Credentials): Promise<void> {
  const message = `\0${prepare(user, 'user')}\0${prepare(password, 'password')}`;
  const { isComplete } = await start(connection, 'PLAIN', Buffer.from(message, 'utf8'));
  if (!isComplete) throw unfinished();
}

async function scram(
  connection: LibvirtConnection,
  by: { readonly mechanism: string; readonly hash: ScramHash; readonly credentials: Credentials },
): Promise<void> {
  const nonce = randomBytes(NONCE_BYTES).toString('base64');
  const client = new ScramClient({ ...by.credentials, hash: by.hash, nonce });
  const challenge = await start(connection, by.mechanism, Buffer.from(client.first(), 'utf8'));
  if (challenge.isComplete) throw unfinished();
  const final = await step(connection, Buffer.from(await client.answer(textOf(challenge)), 'utf8'));
  // Before anything is believed that the other side says, this too that the login is complete.
  client.verify(textOf(final));
  // Some servers send their signature as one more challenge.
  if (!final.isComplete && !(await step(connection, Buffer.alloc(0))).isComplete) throw unfinished();
}

async function start(connection: LibvirtConnection, mechanism: string, message: Message): Promise<Answer> {
  const args = writeMessage(new XdrWriter().string(mechanism), message);
  return readAnswer(await connection.call(PROCEDURE.authSaslStart, args));
}

async function step(connection: LibvirtConnection, message: Message): Promise<Answer> {
  return readAnswer(await connection.call(PROCEDURE.authSaslStep, writeMessage(new XdrWriter(), message)));
}

/** Each byte takes four: they are an array of `char`, not opaque. */
function writeMessage(writer: XdrWriter, message: Message): XdrWriter {
  const bytes = message ?? Buffer.alloc(0);
  writer.int(message === undefined ? 1 : 0).uint(bytes.length);
  for (const byte of bytes) writer.int((byte << 24) >> 24);
  return writer;
}

function readAnswer(reader: XdrReader): Answer {
  const isComplete = reader.int() !== 0;
  const isNothing = reader.int() !== 0;
  const bytes = Buffer.from(reader.list((one) => one.int() & 0xff));
  return { isComplete, message: isNothing ? undefined : bytes };
}

function textOf({ message }: Answer): string {
  return (message ?? Buffer.alloc(0)).toString('utf8');
}

function unfinished(): BerthError {
  return new BerthError('invalid', 'libvirt.malformed', 'libvirt ended the login where it cannot end');
}
