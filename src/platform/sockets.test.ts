import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connectUnix } from './sockets.ts';

test('a connection that breaks before anybody listens to it ends nothing but itself', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'sockets-'));
  const server = createServer((socket) => socket.on('error', () => {}));
  server.listen(join(folder, 's'));
  await once(server, 'listening');
  try {
    const socket = await connectUnix(join(folder, 's'), 1_000);
    const closed = once(socket, 'close');
    // As the kernel says it when the other side is killed over unread bytes.
    socket.destroy(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }));
    // `once` rejects on `error`: here it is the first listener there is beside the quiet one.
    await assert.rejects(closed, /ECONNRESET/);
    const other = await connectUnix(join(folder, 's'), 1_000);
    other.destroy(new Error('unheard'));
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(other.destroyed, true);
  } finally {
    server.close();
    rmSync(folder, { recursive: true });
  }
});
