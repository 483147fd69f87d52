/** TLS connections: verified by the machine's authorities, by a given one, or by the certificate's own fingerprint. */
import { connect, type TLSSocket } from 'node:tls';
import { BerthError, messageOf } from '#base';

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
  /** Gives the connecting up; a connection that is there is not touched. */
  readonly signal?: AbortSignal;
}

/**
 * Connects and verifies; nothing was sent by either side but the handshake.
 *
 * @throws tls.untrusted (unauthenticated) with the fingerprint that was found; socket.unreachable (unavailable).
 */
export function connectTls(target: TlsTarget): Promise<TLSSocket> {
  const { host, port } = target;
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port,
      servername: /^[0-9.]+$|:/.test(host) ? '' : host,
      // Judged below, before anything is sent: only so can the message name the certificate that was shown.
      rejectUnauthorized: false,
      minVersion: 'TLSv1.2',
      ...(target.ca === undefined ? {} : { ca: target.ca }),
      ...(target.identity ?? {}),
    });
    const timer = setTimeout(
      () => socket.destroy(new Error(`no answer within ${target.deadlineMs} ms`)),
      target.deadlineMs,
    );
    const giveUp = (): void => {
      socket.destroy(new Error('it is not wanted any more'));
    };
    const settled = (): void => {
      clearTimeout(timer);
      target.signal?.removeEventListener('abort', giveUp);
    };
    if (target.signal?.aborted === true) giveUp();
    else target.signal?.addEventListener('abort', giveUp, { once: true });
    socket.once('close', settled);
    const onError = (error: Error): void => {
      const text = `cannot connect to ${host}:${port}: ${messageOf(error)}`;
      reject(new BerthError('unavailable', 'socket.unreachable', text, { cause: error }));
    };
    socket.once('error', onError);
    socket.once('secureConnect', () => {
      settled();
      const problem = judge(socket, target);
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

/** Why the server is not the one that is meant; undefined when it is. */
function judge(socket: TLSSocket, { host, port, pin }: TlsTarget): BerthError | undefined {
  const found = socket.getPeerCertificate().fingerprint256?.replaceAll(':', '').toLowerCase() ?? 'none';
  const where = `${host}:${port}`;
  const facts = { found };
  if (pin !== undefined) {
    if (found === pin) return undefined;
    const text = `the certificate of ${where} is not the pinned one: expected sha256:${pin}, found sha256:${found}`;
    const hint = 'if it was renewed on purpose, remove the source and add it with the new --pin';
    return new BerthError('unauthenticated', 'tls.untrusted', text, { hint, facts });
  }
  if (socket.authorized) return undefined;
  const text = `${where} is not trusted: ${messageOf(socket.authorizationError)}`;
  const hint = `if that server is the right one, pin it: --pin sha256:${found}`;
  return new BerthError('unauthenticated', 'tls.untrusted', text, { hint, facts });
}
