/** TLS connections: verified by the machine's authorities, by a given one, or by the certificate's own fingerprint. */
import { connect, type PeerCertificate, type TLSSocket } from 'node:tls';
import { BerthError, errnoOf, messageOf } from '#base';

export interface TlsTarget {
  readonly host: string;
  readonly port: number;
  /** SHA-256 of the one certificate that is accepted, 64 hex digits. Then nobody else's word counts. */
  readonly pin?: string | undefined;
  /** PEM of the authorities to believe instead of the machine's. */
  readonly ca?: string | undefined;
  /** PEM of the client's certificate and key. */
  readonly identity?: { readonly cert: string; readonly key: string } | undefined;
  readonly deadlineMs: number;
}

/**
 * Connects and verifies; nothing was sent by either side but the handshake.
 *
 * @throws tls.untrusted (unauthenticated) with the fingerprint that was found; socket.unreachable (unavailable).
 */
export function connectTls(target: TlsTarget): Promise<TLSSocket> {
  const { host, port, pin } = target;
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port,
      servername: /^[0-9.]+$|:/.test(host) ? '' : host,
      rejectUnauthorized: pin === undefined,
      minVersion: 'TLSv1.2',
      ...(target.ca === undefined ? {} : { ca: target.ca }),
      ...(target.identity ?? {}),
    });
    const timer = setTimeout(
      () => socket.destroy(new Error(`no answer within ${target.deadlineMs} ms`)),
      target.deadlineMs,
    );
    socket.once('close', () => clearTimeout(timer));
    const onError = (error: Error): void => reject(translate(error, socket, target));
    socket.once('error', onError);
    socket.once('secureConnect', () => {
      clearTimeout(timer);
      const problem = pin === undefined ? undefined : pinProblem(socket.getPeerCertificate(), pin, `${host}:${port}`);
      if (problem !== undefined) {
        socket.destroy();
        reject(problem);
        return;
      }
      socket.off('error', onError);
      socket.on('error', () => {});
      resolve(socket);
    });
  });
}

/** The fingerprint of a server's certificate as berth writes it; undefined when there is none. */
export function fingerprintOf(certificate: PeerCertificate | undefined): string | undefined {
  const text = certificate?.fingerprint256;
  return typeof text === 'string' ? text.replaceAll(':', '').toLowerCase() : undefined;
}

/** Why a certificate is not the pinned one; undefined when it is. */
export function pinProblem(certificate: PeerCertificate, pin: string, where: string): BerthError | undefined {
  const found = fingerprintOf(certificate);
  if (found === pin) return undefined;
  const text = `the certificate of ${where} is not the pinned one: expected sha256:${pin}, found sha256:${found ?? 'none'}`;
  return new BerthError('unauthenticated', 'tls.untrusted', text, {
    hint: 'if it was renewed on purpose, remove the source and add it with the new --pin',
    facts: { found: found ?? '' },
  });
}

function translate(error: Error, socket: TLSSocket, { host, port }: TlsTarget): BerthError {
  const where = `${host}:${port}`;
  const code = errnoOf(error) ?? '';
  const isTrust = /CERT|SELF_SIGNED|ALTNAME|UNABLE_TO|ISSUER/.test(code);
  if (!isTrust) {
    const text = `cannot connect to ${where}: ${messageOf(error)}`;
    return new BerthError('unavailable', 'socket.unreachable', text, { cause: error });
  }
  const found = fingerprintOf(socket.getPeerCertificate());
  const hint = found === undefined ? undefined : `if that server is the right one, pin it: --pin sha256:${found}`;
  return new BerthError('unauthenticated', 'tls.untrusted', `${where} is not trusted: ${messageOf(error)}`, {
    ...(hint === undefined ? {} : { hint }),
    cause: error,
  });
}
