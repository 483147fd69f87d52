/**
 * The Docker API as short calls for tests that are about something else than the API: make a VM, ask for its state,
 * run a command in it.
 */
import { request } from 'node:http';
import type { TestDaemon } from './daemon.ts';

export interface Inspected {
  readonly Id: string;
  readonly State: { readonly Status: string; readonly ExitCode: number; readonly Error: string; readonly Pid: number };
  readonly Berth: { readonly State: string; readonly Uid: number };
  readonly NetworkSettings: { readonly IPAddress: string };
}

/** Makes a VM that runs `sh -c script`; the name is its id for the other calls. */
export async function createVm(
  daemon: TestDaemon,
  name: string,
  script: string,
  host: Record<string, unknown> = {},
): Promise<string> {
  const body = { Image: 'berth/busybox', Cmd: ['sh', '-c', script], HostConfig: host };
  const { status, body: answer } = await daemon.call('POST', `/containers/create?name=${name}`, body);
  if (status !== 201) throw new Error(`create answered ${status}: ${JSON.stringify(answer)}`);
  return (answer as { Id: string }).Id;
}

export async function startVm(daemon: TestDaemon, name: string): Promise<void> {
  const { status, body } = await daemon.call('POST', `/containers/${name}/start`);
  if (status !== 204) throw new Error(`start answered ${status}: ${JSON.stringify(body)}`);
}

export async function inspectVm(daemon: TestDaemon, name: string): Promise<Inspected | undefined> {
  const { status, body } = await daemon.call('GET', `/containers/${name}/json`);
  return status === 200 ? (body as Inspected) : undefined;
}

/** What the main process wrote to both streams, frames taken off. */
export async function logsOf(daemon: TestDaemon, name: string): Promise<string> {
  const bytes = await raw(daemon, 'GET', `/containers/${name}/logs?stdout=1&stderr=1`);
  return unframe(bytes);
}

/** Runs a command and returns its output and exit code. */
export async function execIn(
  daemon: TestDaemon,
  name: string,
  args: readonly string[],
): Promise<{ output: string; exitCode: number }> {
  const made = await daemon.call('POST', `/containers/${name}/exec`, {
    Cmd: args,
    AttachStdout: true,
    AttachStderr: true,
  });
  if (made.status !== 201) throw new Error(`exec answered ${made.status}: ${JSON.stringify(made.body)}`);
  const { Id } = made.body as { Id: string };
  const output = unframe(await raw(daemon, 'POST', `/exec/${Id}/start`, { Detach: false }));
  const { body } = await daemon.call('GET', `/exec/${Id}/json`);
  return { output, exitCode: (body as { ExitCode: number }).ExitCode };
}

/** Waits for a condition, looking every 50 ms; a deadline that passes says what was waited for. */
export async function eventually<T>(
  what: string,
  deadlineMs: number,
  look: () => Promise<T | undefined | false>,
): Promise<T> {
  const until = Date.now() + deadlineMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > until) throw new Error(`within ${deadlineMs} ms this did not come true: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function unframe(bytes: Buffer): string {
  const parts: Buffer[] = [];
  for (let at = 0; at + 8 <= bytes.length; ) {
    const length = bytes.readUInt32BE(at + 4);
    parts.push(bytes.subarray(at + 8, at + 8 + length));
    at += 8 + length;
  }
  return Buffer.concat(parts).toString();
}

function raw(daemon: TestDaemon, method: string, path: string, body?: unknown): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const headers =
      text === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(text)) };
    const sent = request({ socketPath: daemon.socket, method, path, headers, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => resolve(Buffer.concat(chunks)));
    });
    sent.on('error', reject);
    sent.end(text);
  });
}
