/**
 * libvirt, spoken by us over its RPC protocol: no native addon, no virsh.
 *
 * A source that allows no power verbs is opened read-only, so that libvirt itself refuses every change.
 */
import type { Duplex } from 'node:stream';
import { BerthError, errnoOf } from '#base';
import { connectTcp, connectTls, connectUnix, files, spawnPiped, startTimer, type TlsTarget } from '#platform';
import type { DriverSession, FleetDriver, SourceTarget } from '../../driver.ts';
import { SSH_ENVIRONMENT, sshFailure } from '../../ssh.ts';
import { HYPERVISORS, parseAddress, problemsOf, TRANSPORTS } from './address.ts';
import { LibvirtConnection } from './connection.ts';
import { openSession } from './libvirt-session.ts';
import { AUTH, OPEN_READ_ONLY, PROCEDURE } from './procedures.ts';
import { type SaslLogin, signInBySasl } from './sasl.ts';
import { XdrWriter } from './xdr.ts';

const CONNECT_DEADLINE_MS = 15_000;

export const libvirtDriver: FleetDriver = {
  name: 'libvirt',
  schemes: HYPERVISORS.flatMap((one) => [one, ...TRANSPORTS.map((transport) => `${one}+${transport}`)]),
  problemsOf,
  open,
};

async function open(target: SourceTarget, signal: AbortSignal): Promise<DriverSession> {
  signal.throwIfAborted();
  const address = parseAddress(target.url, !target.allowPower);
  const connection = new LibvirtConnection(await dial(target, signal), {
    where: target.url.href,
    // libvirtd 9.0 forgets calls that its TLS layer has read along with an earlier one until more bytes come.
    oneAtATime: address.dial.via === 'tls',
  });
  const giveUp = (): void => connection.close();
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    const { credentials } = target;
    await signIn(connection, { where: target.url.href, via: address.dial.via, credentials });
    const flags = target.allowPower ? 0 : OPEN_READ_ONLY;
    const args = new XdrWriter().optional(address.connectUri, (writer, uri) => writer.string(uri)).uint(flags);
    await connection.call(PROCEDURE.connectOpen, args);
    return await openSession(connection, target);
  } catch (error) {
    connection.close();
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

async function dial(target: SourceTarget, signal: AbortSignal): Promise<Duplex> {
  const { dial: way } = parseAddress(target.url, !target.allowPower);
  if (way.via === 'ssh')
    return await spawnPiped(way.argv, {
      inherit: SSH_ENVIRONMENT,
      signal,
      explain: (words) => sshEnd(words, target.url),
    });
  if (way.via === 'tls') {
    const keys = await readPki(way.pkiFolder);
    const socket = await connectTls({ ...way, ...keys, pin: target.pin, deadlineMs: CONNECT_DEADLINE_MS });
    return await afterGreeting(socket, target.url.host);
  }
  if (way.via === 'tcp') return await connectTcp(way.host, way.port, CONNECT_DEADLINE_MS);
  for (const path of way.candidates) {
    if (!(await files.exists(path))) continue;
    try {
      return await connectUnix(path, 0);
    } catch (error) {
      const cause = error instanceof Error ? error.cause : undefined;
      if (errnoOf(cause) !== 'EACCES') throw error;
      throw new BerthError('denied', 'libvirt.socket', `this user may not connect to ${path}`, {
        hint: 'add the user of the daemon to the group libvirt, or run the daemon as root',
        cause: error,
      });
    }
  }
  throw new BerthError('unavailable', 'libvirt.no_socket', `no libvirt listens at ${way.candidates.join(' or ')}`, {
    hint: 'start libvirtd (or virtqemud), or name its socket: qemu:///system?socket=PATH',
  });
}

/** The helper's complaints come by the same way as ssh's own. */
function sshEnd(words: string, url: URL): BerthError {
  if (!/virt-ssh-helper.*(not found|no such file)/i.test(words)) return sshFailure(words, url.host);
  const text = `there is no virt-ssh-helper at ${url.host}: ${words.trim().slice(-200)}`;
  return new BerthError('unsupported', 'libvirt.no_helper', text, {
    hint: 'it comes with libvirt 6.8 and later; reach older ones by TLS',
  });
}

/**
 * Certificates as libvirt's own clients look for them: all in the folder that was named, or in the usual places.
 *
 * @source libvirt, docs/tlscerts.rst; docs/uri.rst (pkipath)
 */
async function readPki(folder: string | undefined): Promise<Pick<TlsTarget, 'ca' | 'identity'>> {
  const places =
    folder === undefined
      ? ['/etc/pki/CA/cacert.pem', '/etc/pki/libvirt/clientcert.pem', '/etc/pki/libvirt/private/clientkey.pem']
      : [`${folder}/cacert.pem`, `${folder}/clientcert.pem`, `${folder}/clientkey.pem`];
  const [ca, cert, key] = await Promise.all(places.map((path) => files.readTextIfExists(path)));
  return { ca, identity: cert === undefined || key === undefined ? undefined : { cert, key } };
}

/** libvirt says one byte, 1, once it has accepted the client's certificate; it hangs up when it has not. */
function afterGreeting(socket: Duplex, where: string): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const refuse = (): void => {
      timer.cancel();
      socket.destroy();
      reject(
        new BerthError('unauthenticated', 'libvirt.certificate', `libvirt at ${where} did not accept this client`, {
          hint: 'give it a client certificate: ?pkipath=FOLDER with cacert.pem, clientcert.pem, clientkey.pem',
        }),
      );
    };
    const timer = startTimer(CONNECT_DEADLINE_MS, refuse);
    socket.once('close', refuse);
    socket.once('data', (chunk: Buffer) => {
      socket.off('close', refuse);
      timer.cancel();
      socket.pause();
      if (chunk[0] !== 1) {
        refuse();
        return;
      }
      if (chunk.length > 1) socket.unshift(chunk.subarray(1));
      resolve(socket);
    });
  });
}

/** No login, or polkit's, which looks at who is at the other end of the socket, or a user and password. */
async function signIn(connection: LibvirtConnection, login: SaslLogin): Promise<void> {
  const offered = (await connection.call(PROCEDURE.authList)).list((reader) => reader.int());
  if (offered.length === 0 || offered.includes(AUTH.none)) return;
  if (offered.includes(AUTH.polkit)) {
    await connection.call(PROCEDURE.authPolkit);
    return;
  }
  if (offered.includes(AUTH.sasl)) {
    await signInBySasl(connection, login);
    return;
  }
  throw new BerthError('unsupported', 'libvirt.login_kind', `libvirt at ${login.where} wants a login of another kind`, {
    facts: { offered: offered.join(' ') },
    hint: 'reach it by ssh (qemu+ssh://) or by TLS with a client certificate',
  });
}
