import { createSocket } from 'node:dgram';
import { connect, createServer, type NetConnectOpts, type Socket } from 'node:net';
import { BerthError, errnoOf, messageOf } from '#base';
import { monotonicMs, sleep } from './clock.ts';

/**
 * Connects to a unix socket that its server may not have made yet.
 *
 * @param stillWorthIt - asked between tries; return false to give up early (the server died).
 * @throws socket.unreachable (unavailable) after `deadlineMs` or when it is no longer worth it.
 */
export async function connectUnix(
  path: string,
  deadlineMs: number,
  stillWorthIt: () => boolean = () => true,
): Promise<Socket> {
  const until = monotonicMs() + deadlineMs;
  for (;;) {
    try {
      return await connectOnce({ path });
    } catch (error) {
      const errno = errnoOf(error);
      const notYet = errno === 'ENOENT' || errno === 'ECONNREFUSED' || errno === 'EAGAIN';
      if (!notYet || monotonicMs() > until || !stillWorthIt()) {
        throw new BerthError('unavailable', 'socket.unreachable', `cannot connect to ${path}: ${messageOf(error)}`, {
          cause: error,
        });
      }
    }
    await sleep(2);
  }
}

/**
 * Connects to a port once. The socket is half-open capable: its end is not sent because the other side ended.
 *
 * @throws socket.unreachable (unavailable) when it is refused or does not come about within `deadlineMs`.
 */
export async function connectTcp(host: string, port: number, deadlineMs: number): Promise<Socket> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new Error(`no answer within ${deadlineMs} ms`)), deadlineMs);
  try {
    return await connectOnce({ host, port, allowHalfOpen: true, signal: late.signal });
  } catch (error) {
    const why = messageOf(late.signal.aborted ? late.signal.reason : error);
    const text = `cannot connect to ${host}:${port}: ${why}`;
    throw new BerthError('unavailable', 'socket.unreachable', text, { cause: error });
  } finally {
    // A signal that fires later would close the socket, connected as it is.
    clearTimeout(timer);
  }
}

function connectOnce(where: NetConnectOpts): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(where);
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      // Until its owner listens, and after: an error nobody hears would end the whole program. `close` follows it.
      socket.on('error', () => {});
      resolve(socket);
    });
    socket.once('error', reject);
  });
}

/** A host port that nobody else can take while it is held. */
export interface PortReservation {
  readonly port: number;
  /**
   * What becomes of those who do reach it: a TCP connection, paused, is the caller's; a datagram is only a sign that
   * somebody wants something. Without it a connection is closed at once.
   */
  serve(arrival: ((connection: Socket | undefined) => void) | undefined): void;
  /** Gives the port back, and ends the connections that came by it. */
  release(): Promise<void>;
}

/**
 * Binds a host port so that no other program can, without ever serving it: packets for it are redirected by the
 * kernel before they would reach this socket.
 *
 * @param port - 0 lets the kernel choose.
 * @throws port.taken (conflict) when another program has it; port.denied (denied) without the right to bind it.
 */
export async function reservePort(protocol: 'tcp' | 'udp', address: string, port: number): Promise<PortReservation> {
  const host = address === '' ? '0.0.0.0' : address;
  try {
    return await (protocol === 'tcp' ? reserveTcp(host, port) : reserveUdp(host, port));
  } catch (error) {
    const errno = errnoOf(error);
    const where = `${host}:${port}`;
    if (errno === 'EADDRINUSE') {
      throw new BerthError('conflict', 'port.taken', `Bind for ${where} failed: port is already allocated`, {
        hint: `another program listens on ${where}/${protocol}; choose another host port`,
        cause: error,
      });
    }
    if (errno === 'EACCES')
      throw new BerthError('denied', 'port.denied', `not allowed to bind ${where}/${protocol}`, { cause: error });
    if (errno === 'EADDRNOTAVAIL') {
      throw new BerthError('invalid', 'port.no_such_address', `cannot bind ${where}: this host has no such address`, {
        cause: error,
      });
    }
    throw error;
  }
}

function reserveTcp(host: string, port: number): Promise<PortReservation> {
  return new Promise((resolve, reject) => {
    let arrival: ((connection: Socket | undefined) => void) | undefined;
    const open = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      open.add(socket);
      socket.once('close', () => open.delete(socket));
      socket.on('error', () => socket.destroy());
      if (arrival === undefined) socket.destroy();
      else arrival(socket);
    });
    server.once('error', reject);
    server.listen({ host, port, exclusive: true }, () => {
      server.unref();
      const bound = server.address();
      resolve({
        port: typeof bound === 'object' && bound !== null ? bound.port : port,
        serve: (wanted) => {
          arrival = wanted;
        },
        release: () =>
          new Promise((done) => {
            server.close(() => done());
            for (const socket of open) socket.destroy();
          }),
      });
    });
  });
}

function reserveUdp(host: string, port: number): Promise<PortReservation> {
  return new Promise((resolve, reject) => {
    let arrival: ((connection: undefined) => void) | undefined;
    const socket = createSocket('udp4');
    socket.on('message', () => arrival?.(undefined));
    socket.once('error', reject);
    socket.bind({ address: host, port, exclusive: true }, () => {
      socket.unref();
      resolve({
        port: socket.address().port,
        serve: (wanted) => {
          arrival = wanted;
        },
        release: () => new Promise((done) => socket.close(() => done())),
      });
    });
  });
}

/**
 * Connects to `address` and carries bytes both ways until both ends have closed, each at its own pace.
 *
 * @param client - paused, with half-open allowed.
 * @param onAnswer - called when the first bytes have come back, and when both ends are closed: it may come twice.
 * @throws socket.unreachable (unavailable): the client is left as it was.
 */
export async function joinTcp(
  client: Socket,
  { address, port, deadlineMs }: { readonly address: string; readonly port: number; readonly deadlineMs: number },
  onAnswer: () => void,
): Promise<void> {
  const target = await connectTcp(address, port, deadlineMs);
  target.once('data', onAnswer);
  target.once('close', onAnswer);
  target.on('error', () => client.destroy());
  client.on('error', () => target.destroy());
  client.on('close', () => target.destroy());
  target.on('close', () => client.destroy());
  client.pipe(target);
  target.pipe(client);
}
