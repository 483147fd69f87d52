/** A real Docker registry (Debian's docker-registry) on a loopback port, and pushing to it. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export const REGISTRY_USER = 'berth';
export const REGISTRY_PASSWORD = 'pw';
/** bcrypt of REGISTRY_PASSWORD: the registry takes nothing else. */
const HTPASSWD = 'berth:$2y$05$abcdefghijklmnopqrstuuHIrMEWpUCQe2YqFR3sXwQ75u4od..9q\n';
const START_DEADLINE_MS = 20_000;

export interface RunningRegistry {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  stop(): Promise<void>;
}

export async function startRegistry(options: { readonly basicAuth?: boolean } = {}): Promise<RunningRegistry> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-registry-'));
  const port = await freePort();
  const lines = [
    'version: 0.1',
    'log: { level: error, accesslog: { disabled: true } }',
    `storage: { filesystem: { rootdirectory: ${join(folder, 'data')} } }`,
    `http: { addr: "127.0.0.1:${port}", secret: berth-tests }`,
  ];
  if (options.basicAuth === true) {
    await writeFile(join(folder, 'htpasswd'), HTPASSWD);
    lines.push(`auth: { htpasswd: { realm: berth-tests, path: ${join(folder, 'htpasswd')} } }`);
  }
  await writeFile(join(folder, 'config.yml'), `${lines.join('\n')}\n`);
  const child = spawn('docker-registry', ['serve', join(folder, 'config.yml')], { stdio: 'ignore' });
  const exited = once(child, 'exit');
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    await exited;
    await rm(folder, { recursive: true, force: true });
  };
  const deadline = Date.now() + START_DEADLINE_MS;
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${port}/v2/`).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer !== undefined) return { host: `127.0.0.1:${port}`, stop };
    if (Date.now() > deadline || child.exitCode !== null) {
      await stop();
      throw new Error('docker-registry did not start: is the package docker-registry installed?');
    }
    await delay(30);
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

export interface PushTarget {
  readonly host: string;
  readonly repository: string;
  readonly isAuthenticated?: boolean;
}

export function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

function authorization(target: PushTarget): Record<string, string> {
  if (target.isAuthenticated !== true) return {};
  return { authorization: `Basic ${Buffer.from(`${REGISTRY_USER}:${REGISTRY_PASSWORD}`).toString('base64')}` };
}

/** The monolithic upload: POST for a place, PUT the whole blob. */
export async function pushBlob(target: PushTarget, bytes: Uint8Array): Promise<string> {
  const digest = sha256(bytes);
  const headers = authorization(target);
  const start = await fetch(`http://${target.host}/v2/${target.repository}/blobs/uploads/`, {
    method: 'POST',
    headers,
  });
  const place = new URL(start.headers.get('location') ?? '', `http://${target.host}`);
  place.searchParams.set('digest', digest);
  const done = await fetch(place, {
    method: 'PUT',
    headers: { ...headers, 'content-type': 'application/octet-stream' },
    body: Buffer.from(bytes),
  });
  if (done.status !== 201) throw new Error(`upload of a blob: ${done.status} ${await done.text()}`);
  return digest;
}

export async function pushManifest(
  target: PushTarget,
  tag: string,
  manifest: { readonly mediaType: string },
): Promise<string> {
  const bytes = Buffer.from(JSON.stringify(manifest));
  const answer = await fetch(`http://${target.host}/v2/${target.repository}/manifests/${tag}`, {
    method: 'PUT',
    headers: { ...authorization(target), 'content-type': manifest.mediaType },
    body: bytes,
  });
  if (answer.status !== 201) throw new Error(`upload of a manifest: ${answer.status} ${await answer.text()}`);
  return sha256(bytes);
}
