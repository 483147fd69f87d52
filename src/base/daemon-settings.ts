/** Where a daemon keeps what: flags over environment over the defaults for root and for other users. */
export interface DaemonSettings {
  readonly stateFolder: string;
  readonly runFolder: string;
  readonly socket: string;
  readonly isRoot: boolean;
}

export interface SettingsInput {
  readonly flags: {
    readonly stateDir?: string | undefined;
    readonly runDir?: string | undefined;
    readonly socket?: string | undefined;
  };
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number;
  readonly home: string;
}

/**
 * Root: /var/lib/berth and /run/berth. Others: $XDG_DATA_HOME/berth and $XDG_RUNTIME_DIR/berth.
 *
 * A state folder that is not the default has its own run folder, so that several daemons live side by side; its name
 * is short, since unix socket paths have at most 107 bytes.
 */
export function resolveSettings({ flags, env, uid, home }: SettingsInput): DaemonSettings {
  const isRoot = uid === 0;
  const defaultState = isRoot ? '/var/lib/berth' : `${env['XDG_DATA_HOME'] || `${home}/.local/share`}/berth`;
  const stateFolder = (flags.stateDir ?? (env['BERTH_STATE_DIR'] || defaultState)).replace(/\/+$/, '');
  const runtime = isRoot ? '/run' : env['XDG_RUNTIME_DIR'] || `/tmp/berth-${uid}`;
  const defaultRun = (): string =>
    stateFolder === defaultState ? `${runtime}/berth` : `${runtime}/berth-${shortDigest(stateFolder)}`;
  const runFolder = (flags.runDir ?? (env['BERTH_RUN_DIR'] || defaultRun())).replace(/\/+$/, '');
  const socket = flags.socket ?? (env['BERTH_SOCKET'] || `${runFolder}/berth.sock`);
  return { stateFolder, runFolder, socket, isRoot };
}

/** Loaded when it is needed only: node:crypto takes 7 ms, and every command comes through here. */
function shortDigest(text: string): string {
  const { createHash } = process.getBuiltinModule('node:crypto');
  return createHash('sha256').update(text).digest('hex').slice(0, 8);
}
