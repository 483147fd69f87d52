/**
 * A daemon of its own for a test: own folders under the temporary folder, own socket, own bridge, found again by
 * nobody else. `leaks` looks at the machine from outside and lists what the daemon should have given back.
 */
import { spawn } from 'node:child_process';
import { chmodSync, closeSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BerthError, messageOf } from '#base';
import { findProcesses, monotonicMs, runChecked, runProcess, signalProcess, sleep } from '#platform';
import { daemonCommand } from '#setup';

export interface TestDaemonOptions {
  /** Beside the folders: for example `['--socket', path]`. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Another installation's daemon; this checkout's without it. */
  readonly program?: string;
}

export interface TestDaemon {
  readonly socket: string;
  readonly stateDir: string;
  readonly runDir: string;
  readonly logPath: string;
  readonly pid: number;
  /** The Docker API, for checks and for cleaning up. */
  call(method: string, path: string, body?: unknown): Promise<{ status: number; body: unknown }>;
  /** SIGTERM and the wait for the end: VMs run on. The folders stay. */
  stop(): Promise<void>;
  /** SIGKILL, as by the kernel or a person in a hurry. `start` brings the next daemon. */
  crash(): Promise<void>;
  /** A daemon on the same folders, after `stop` or `crash`. */
  start(): Promise<void>;
  /** `stop` and `start`. */
  restart(): Promise<void>;
  /** Removes every VM, stops, and removes the folders unless something leaked. Returns what leaked. */
  dispose(): Promise<readonly string[]>;
  /** What is there and belongs to no VM this daemon knows: one line each. While it runs, its bridge may be there. */
  leaks(): Promise<readonly string[]>;
}

const CHECKOUT = new URL('../..', import.meta.url).pathname;
/** A loaded machine of two cores starts it within 2 s. */
const START_DEADLINE_MS = 60_000;
/** VMs that are being stopped may take their whole grace. */
const STOP_DEADLINE_MS = 60_000;

/** @throws test.environment (unavailable) with the daemon's last words when it does not come up. */
export async function startTestDaemon(options: TestDaemonOptions = {}): Promise<TestDaemon> {
  const folder = mkdtempSync(join(tmpdir(), 'berth-test-'));
  // QEMU runs under a user of its own and has to come through here.
  chmodSync(folder, 0o711);
  const daemon = new StartedDaemon(folder, options);
  await daemon.start();
  return daemon;
}

class StartedDaemon implements TestDaemon {
  readonly stateDir: string;
  readonly runDir: string;
  readonly socket: string;
  readonly logPath: string;
  pid = -1;
  readonly #folder: string;
  readonly #options: TestDaemonOptions;
  readonly #bridges = new Set<string>();
  readonly #vmIds = new Set<string>();
  #ended: Promise<void> = Promise.resolve();

  constructor(folder: string, options: TestDaemonOptions) {
    this.#folder = folder;
    this.#options = options;
    this.stateDir = join(folder, 'state');
    this.runDir = join(folder, 'run');
    this.socket = join(this.runDir, 'berth.sock');
    this.logPath = join(folder, 'daemon.log');
  }

  async start(): Promise<void> {
    const log = openSync(this.logPath, 'a');
    const program = this.#options.program ?? join(CHECKOUT, '.build/daemon/main.mjs');
    const folders = ['--state-dir', this.stateDir, '--run-dir', this.runDir];
    const [node, ...words] = daemonCommand({ daemon: program }, [...folders, ...(this.#options.flags ?? [])]);
    const child = spawn(node, words, {
      detached: true,
      stdio: ['ignore', log, log],
      env: { ...process.env, ...this.#options.env },
    });
    closeSync(log);
    child.unref();
    this.pid = child.pid ?? -1;
    let died = false;
    this.#ended = new Promise((resolve) => {
      child.once('exit', () => {
        died = true;
        resolve();
      });
    });
    const until = monotonicMs() + START_DEADLINE_MS;
    while (!(await this.#answers())) {
      if (died || monotonicMs() > until) {
        const words = readFileSync(this.logPath, 'utf8').trim().split('\n').slice(-20).join('\n');
        throw new BerthError('unavailable', 'test.environment', `the test daemon did not come up:\n${words}`);
      }
      await sleep(20);
    }
    this.#noteBridges();
  }

  async crash(): Promise<void> {
    signalProcess(this.pid, 'SIGKILL');
    await this.#ended;
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  async stop(): Promise<void> {
    await this.#noteVms();
    signalProcess(this.pid, 'SIGTERM');
    const late = new AbortController();
    await Promise.race([
      this.#ended,
      sleep(STOP_DEADLINE_MS, late.signal).then(
        () => signalProcess(this.pid, 'SIGKILL'),
        () => {},
      ),
    ]);
    late.abort();
    await this.#ended;
  }

  async dispose(): Promise<readonly string[]> {
    if (await this.#answers()) {
      await this.#noteVms();
      const { body } = await this.call('GET', '/containers/json?all=1');
      for (const { Id } of body as { Id: string }[]) await this.call('DELETE', `/containers/${Id}?force=1`);
      await this.stop();
    }
    const leaks = await this.leaks();
    if (leaks.length === 0) rmSync(this.#folder, { recursive: true, force: true });
    return leaks;
  }

  call(method: string, path: string, body?: unknown): Promise<{ status: number; body: unknown }> {
    return new Promise((resolve, reject) => {
      const text = body === undefined ? undefined : JSON.stringify(body);
      const headers =
        text === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(text)) };
      const sent = request({ socketPath: this.socket, method, path, headers, agent: false }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, body: parsed(Buffer.concat(chunks).toString()) }),
        );
      });
      sent.on('error', reject);
      sent.end(text);
    });
  }

  async leaks(): Promise<readonly string[]> {
    const alive = await this.#answers();
    if (alive) await this.#noteVms();
    const kept = new Set(alive ? await this.#knownVms() : []);
    const isKept = (text: string): boolean => [...kept].some((id) => text.includes(id.slice(0, 12)));
    const found: string[] = [];
    for (const one of await findProcesses(this.#folder)) {
      const line = one.argv.join(' ');
      const isOwn = one.pid === this.pid || one.pid === process.pid;
      const isNameServer = alive && line.includes('dnsmasq');
      // Templates and machines that wait for a VM are a running daemon's own; none may outlive it.
      const isSupply = alive && (line.includes(`${this.runDir}/templates/`) || line.includes(`${this.runDir}/vm/s`));
      if (!isOwn && !isNameServer && !isSupply && !isKept(line))
        found.push(`process ${one.pid}: ${line.slice(0, 300)}`);
    }
    const links = await linkNames();
    for (const id of this.#vmIds) {
      const tap = `bt${id.slice(0, 12)}`;
      if (links.includes(tap) && !isKept(tap)) found.push(`tap ${tap}`);
    }
    for (const folder of [join(this.runDir, 'vm'), join(this.stateDir, 'vms')]) {
      for (const name of existsSync(folder) ? readdirSync(folder) : [])
        if (!isKept(name) && !(alive && /^s[0-9a-f]{12}$/.test(name))) found.push(`folder ${folder}/${name}`);
    }
    if (alive) return found;
    for (const bridge of this.#bridges) {
      if (links.includes(bridge)) found.push(`bridge ${bridge}`);
      if ((await tables()).includes(`berth_${bridge}`)) found.push(`nft table berth_${bridge}`);
    }
    if (existsSync(this.socket)) found.push(`socket ${this.socket}`);
    const dns = join(this.runDir, 'dns');
    for (const name of existsSync(dns) ? readdirSync(dns) : []) found.push(`file ${dns}/${name}`);
    return found;
  }

  async #answers(): Promise<boolean> {
    try {
      return (await this.call('GET', '/_ping')).status === 200;
    } catch {
      return false;
    }
  }

  async #knownVms(): Promise<string[]> {
    const { body } = await this.call('GET', '/containers/json?all=1');
    return (body as { Id: string }[]).map(({ Id }) => Id);
  }

  /** Ids are remembered, so that what a removed VM left behind can be named. */
  async #noteVms(): Promise<void> {
    try {
      for (const id of await this.#knownVms()) this.#vmIds.add(id);
      const now = Date.now() / 1000;
      const { body } = await this.call('GET', `/events?since=1&until=${now}&filters={"type":["container"]}`);
      for (const line of String(body).split('\n')) {
        const event = parsed(line) as { Actor?: { ID?: string } } | string;
        if (typeof event === 'object' && event.Actor?.ID !== undefined) this.#vmIds.add(event.Actor.ID);
      }
    } catch (error) {
      throw new BerthError(
        'unavailable',
        'test.environment',
        `the test daemon does not say what it ran: ${messageOf(error)}`,
      );
    }
  }

  #noteBridges(): void {
    const dns = join(this.runDir, 'dns');
    for (const name of existsSync(dns) ? readdirSync(dns) : [])
      if (name.endsWith('.hosts')) this.#bridges.add(name.slice(0, -'.hosts'.length));
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

async function linkNames(): Promise<string[]> {
  const { stdout } = await runChecked(['ip', '-j', 'link', 'show']);
  return (JSON.parse(stdout) as { ifname: string }[]).map((link) => link.ifname);
}

async function tables(): Promise<string> {
  return (await runProcess(['nft', 'list', 'tables'])).stdout;
}
