/** A TCP proxy that passes bytes until a test says otherwise: cut everything, stall, or cut after so many bytes of answers. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

export interface TcpFaultProxy {
  readonly port: number;
  /** Cuts what is open, and what comes after `answerBytes` more bytes of answers; Infinity passes all. */
  cutAfter(answerBytes: number): void;
  /** Nothing passes any more, and nothing is closed. */
  stall(isStalled: boolean): void;
  close(): Promise<void>;
}

export async function startTcpFaultProxy(targetPort: number): Promise<TcpFaultProxy> {
  const open = new Set<Socket>();
  let leftBytes = Number.POSITIVE_INFINITY;
  let isStalled = false;
  const server = createServer((client) => {
    const target = connect(targetPort, '127.0.0.1');
    for (const socket of [client, target]) {
      open.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        open.delete(socket);
        client.destroy();
        target.destroy();
      });
    }
    client.on('data', (chunk: Buffer) => {
      if (!isStalled) target.write(chunk);
    });
    target.on('data', (chunk: Buffer) => {
      if (isStalled) return;
      leftBytes -= chunk.length;
      if (leftBytes < 0) client.destroy();
      else client.write(chunk);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const cut = (): void => {
    for (const socket of open) socket.destroy();
  };
  return {
    port: address.port,
    cutAfter: (answerBytes) => {
      leftBytes = answerBytes;
      if (answerBytes === 0) cut();
    },
    stall: (stalled) => {
      isStalled = stalled;
    },
    close: async () => {
      cut();
      server.close();
      await once(server, 'close');
    },
  };
}
