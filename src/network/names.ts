/**
 * Names for guests: one dnsmasq per bridge, in its own session so that names go on resolving while berthd is away.
 *
 * It answers for the VMs of this bridge from a hosts file that berthd rewrites, and asks the host's own resolvers for
 * the rest. It binds the bridge's address only.
 */
import { BerthError, messageOf } from '#base';
import { files, findProcesses, killAndWait, processInfo, runChecked, signalProcess } from '#platform';

export interface NameEntry {
  readonly address: string;
  readonly names: readonly string[];
}

export class NameServer {
  readonly #folder: string;
  readonly #bridge: string;
  readonly #gateway: string;
  #entries = new Map<string, NameEntry>();
  #writing: Promise<void> = Promise.resolve();
  #isWriteDue = false;

  /** @param folder - holds the hosts file and the pid file; made when missing, readable by everyone. */
  constructor(folder: string, bridge: string, gateway: string) {
    this.#folder = folder;
    this.#bridge = bridge;
    this.#gateway = gateway;
  }

  get #hostsFile(): string {
    return `${this.#folder}/${this.#bridge}.hosts`;
  }

  get #pidFile(): string {
    return `${this.#folder}/${this.#bridge}.pid`;
  }

  /** Starts dnsmasq unless the one of an earlier daemon still runs. @throws dns.failed (unavailable) */
  async start(): Promise<void> {
    await files.mkdir(this.#folder, { recursive: true, mode: 0o755 });
    // What a daemon that died was writing aside.
    for (const name of await files.readdir(this.#folder))
      if (name.endsWith('.tmp')) await files.rm(`${this.#folder}/${name}`, { force: true });
    await files.writeFileAtomic(this.#hostsFile, this.#render(), 0o644);
    if ((await this.#find()) !== undefined) return;
    try {
      await runChecked([
        'dnsmasq',
        '--conf-file=/dev/null',
        `--pid-file=${this.#pidFile}`,
        `--interface=${this.#bridge}`,
        '--except-interface=lo',
        `--listen-address=${this.#gateway}`,
        '--bind-interfaces',
        '--no-hosts',
        `--addn-hosts=${this.#hostsFile}`,
        '--user=nobody',
        '--group=nogroup',
        '--cache-size=1000',
      ]);
    } catch (error) {
      throw new BerthError('unavailable', 'dns.failed', `the name server of ${this.#bridge} did not start`, {
        cause: error,
      });
    }
  }

  async stop(): Promise<void> {
    const found = await this.#find();
    if (found !== undefined) await killAndWait(found);
    await files.rm(this.#hostsFile, { force: true });
    await files.rm(this.#pidFile, { force: true });
  }

  /** Adds or replaces the names of `key`; with undefined removes them. Writes are joined and never reordered. */
  set(key: string, entry: NameEntry | undefined, onError: (message: string) => void): void {
    if (entry === undefined) this.#entries.delete(key);
    else this.#entries.set(key, entry);
    // One write tells of all that changed until it begins: ten thousand VMs of a daemon that starts are one write.
    if (this.#isWriteDue) return;
    this.#isWriteDue = true;
    this.#writing = this.#writing.then(() => this.#write()).catch((error: unknown) => onError(messageOf(error)));
  }

  async settled(): Promise<void> {
    await this.#writing;
  }

  async #write(): Promise<void> {
    this.#isWriteDue = false;
    await files.writeFileAtomic(this.#hostsFile, this.#render(), 0o644);
    const found = await this.#find();
    if (found !== undefined) signalProcess(found.pid, 'SIGHUP');
  }

  #render(): string {
    const lines = [...this.#entries.values()].map((entry) => `${entry.address} ${entry.names.join(' ')}`);
    return `${lines.join('\n')}\n`;
  }

  async #find(): Promise<{ pid: number; startTicks: number } | undefined> {
    const text = await files.readTextIfExists(this.#pidFile);
    const info = text === undefined ? undefined : await processInfo(Number(text.trim()));
    if (info !== undefined && info.state !== 'Z') {
      const command = await files.readTextIfExists(`/proc/${info.pid}/cmdline`);
      if (command?.includes(this.#pidFile)) return info;
    }
    const [stray] = await findProcesses(`--pid-file=${this.#pidFile}`);
    return stray;
  }
}
