/** From the flags of `run` and `create` to the body of `POST /containers/create`. Pure: files are read before. */
import type { Options } from './command-line.ts';
import { usageError } from './command-line.ts';
import { parseExposed, parsePublished } from './ports.ts';

export interface CreateInput {
  readonly options: Options;
  readonly image: string;
  readonly command: readonly string[];
  /** Contents of the files that --env-file and --label-file name, in order. */
  readonly envFiles: readonly string[];
  readonly labelFiles: readonly string[];
  /** This command's own environment, for `-e NAME`. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly attached: Attachment;
  readonly consoleSize: readonly [rows: number, columns: number];
}

export interface Attachment {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
}

/** As the daemon's API has it. */
export type CreateBody = Readonly<Record<string, unknown>> & { readonly HostConfig: Readonly<Record<string, unknown>> };

/** @throws usage (invalid) naming the flag. */
export function createBody(input: CreateInput): CreateBody {
  const { options, env, attached } = input;
  const published = parsePublished(options.list('publish'));
  const entrypoint = options.text('entrypoint');
  const timeout = options.number('stop-timeout');
  const network = options.text('network') ?? options.text('net') ?? 'default';
  const variables = [
    ...input.envFiles.flatMap((text) => parseEnvFile(text, env)),
    ...options.list('env').flatMap((word) => envEntry(word, env)),
  ];
  const sleepAfter = options.text('sleep-after');
  return {
    Hostname: options.text('hostname') ?? '',
    Domainname: options.text('domainname') ?? '',
    User: options.text('user') ?? '',
    AttachStdin: attached.stdin,
    AttachStdout: attached.stdout,
    AttachStderr: attached.stderr,
    ExposedPorts: { ...parseExposed(options.list('expose')), ...published.exposed },
    Tty: options.flag('tty'),
    OpenStdin: options.flag('interactive'),
    StdinOnce: options.flag('interactive') && attached.stdin,
    Env: variables,
    Cmd: input.command.length === 0 ? null : input.command,
    Image: input.image,
    WorkingDir: options.text('workdir') ?? '',
    Entrypoint: entrypoint === undefined ? null : [entrypoint],
    Labels: {
      ...Object.assign({}, ...input.labelFiles.map(parseLabelFile)),
      ...pairs(options.list('label'), ''),
      ...(sleepAfter === undefined ? {} : { 'berth.sleep-after': sleepAfter }),
    },
    ...(options.flag('no-healthcheck') ? { Healthcheck: { Test: ['NONE'] } } : {}),
    ...(options.text('stop-signal') === undefined ? {} : { StopSignal: options.text('stop-signal') }),
    ...(timeout === undefined ? {} : { StopTimeout: timeout }),
    ...(options.text('mac-address') === undefined ? {} : { MacAddress: options.text('mac-address') }),
    HostConfig: {
      ...hostConfig(options),
      NetworkMode: network,
      PortBindings: published.bindings,
      ConsoleSize: input.consoleSize,
    },
    NetworkingConfig: { EndpointsConfig: {} },
  };
}

function hostConfig(options: Options): Record<string, unknown> {
  const list = (name: string): readonly string[] | null =>
    options.list(name).length === 0 ? null : options.list(name);
  return {
    AutoRemove: options.flag('rm'),
    Binds: list('volume'),
    Mounts: options.list('mount').map(parseMount),
    VolumesFrom: list('volumes-from'),
    PublishAllPorts: options.flag('publish-all'),
    RestartPolicy: parseRestart(options.text('restart') ?? 'no'),
    Memory: bytesOf(options.text('memory'), '--memory'),
    NanoCpus: parseCpus(options.text('cpus')),
    ReadonlyRootfs: options.flag('read-only'),
    Tmpfs: parseTmpfs(options.list('tmpfs')),
    ShmSize: bytesOf(options.text('shm-size'), '--shm-size'),
    StorageOpt: pairs(options.list('storage-opt'), '--storage-opt'),
    ExtraHosts: options.list('add-host').map(checkHost),
    Dns: options.list('dns'),
    DnsSearch: options.list('dns-search'),
    DnsOptions: options.list('dns-option'),
    CapAdd: list('cap-add'),
    CapDrop: list('cap-drop'),
    GroupAdd: list('group-add'),
    SecurityOpt: list('security-opt'),
    Privileged: options.flag('privileged'),
    Devices: options.list('device').map((device) => ({
      PathOnHost: device.split(':')[0],
      PathInContainer: device.split(':')[1] ?? device.split(':')[0],
      CgroupPermissions: 'rwm',
    })),
    Ulimits: options.list('ulimit').map(parseUlimit),
    Sysctls: pairs(options.list('sysctl'), '--sysctl'),
    PidMode: options.text('pid') ?? '',
    IpcMode: options.text('ipc') ?? '',
    Annotations: pairs(options.list('annotation'), ''),
    LogConfig: { Type: options.text('log-driver') ?? '', Config: pairs(options.list('log-opt'), '--log-opt') },
    ...(options.text('runtime') === undefined ? {} : { Runtime: options.text('runtime') }),
    ...(options.flag('init') ? { Init: true } : {}),
  };
}

/** `NAME=value`, or `NAME`, which takes this command's value and is left out when it has none. */
function envEntry(word: string, env: Readonly<Record<string, string | undefined>>): string[] {
  if (word === '' || word.startsWith('=')) throw usageError(`invalid environment variable: ${word}`);
  if (word.includes('=')) return [word];
  const value = env[word];
  return value === undefined ? [word] : [`${word}=${value}`];
}

/** Lines of `NAME=value` or `NAME`; `#` starts a comment line. Values are taken as they are, quotes too, as in Docker. */
export function parseEnvFile(text: string, env: Readonly<Record<string, string | undefined>>): string[] {
  const entries: string[] = [];
  for (const [index, raw] of text
    .replace(/^\uFEFF/, '')
    .split('\n')
    .entries()) {
    const line = raw.replace(/\r$/, '').trimStart();
    if (line === '' || line.startsWith('#')) continue;
    const name = line.split('=', 1)[0] ?? '';
    if (name === '') throw usageError(`line ${index + 1} of the env file has no variable name: ${line}`);
    if (/\s/.test(name)) throw usageError(`line ${index + 1} of the env file: variable '${name}' contains whitespaces`);
    if (line.includes('=')) entries.push(line);
    else if (env[name] !== undefined) entries.push(`${name}=${env[name]}`);
  }
  return entries;
}

function parseLabelFile(text: string): Record<string, string> {
  return pairs(
    text
      .split('\n')
      .map((line) => line.replace(/\r$/, '').trimStart())
      .filter((line) => line !== '' && !line.startsWith('#')),
    '',
  );
}

/** `name=value` words; without `=` the value is empty, or wrong when `flag` is named. */
export function pairs(words: readonly string[], flag: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const word of words) {
    const equals = word.indexOf('=');
    if (equals === 0 || (flag !== '' && equals < 0))
      throw usageError(`invalid argument "${word}" for ${flag || 'a label'}: expected name=value`);
    found[equals < 0 ? word : word.slice(0, equals)] = equals < 0 ? '' : word.slice(equals + 1);
  }
  return found;
}

/** `512m`, `1.5g`, `1073741824`: binary multiples. 0 when absent. @throws usage (invalid) */
export function bytesOf(text: string | undefined, flag: string): number {
  if (text === undefined) return 0;
  const found = /^([0-9]+(?:\.[0-9]+)?)\s*([bkmgtp]?)(?:i?b)?$/i.exec(text.trim());
  if (found === null)
    throw usageError(`invalid argument "${text}" for ${flag}: invalid size`, 'for example 512m or 2g');
  const unit = (found[2] || 'b').toLowerCase();
  return Math.floor(Number(found[1]) * 1024 ** 'bkmgtp'.indexOf(unit));
}

function parseCpus(text: string | undefined): number {
  if (text === undefined) return 0;
  if (!/^[0-9]*\.?[0-9]+$/.test(text))
    throw usageError(`invalid argument "${text}" for --cpus: failed to parse as a number`);
  return Math.round(Number(text) * 1e9);
}

function parseTmpfs(words: readonly string[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (const word of words) {
    const colon = word.indexOf(':');
    found[colon < 0 ? word : word.slice(0, colon)] = colon < 0 ? '' : word.slice(colon + 1);
  }
  return found;
}

function parseMount(word: string): object {
  const fields: Record<string, string> = {};
  for (const part of word.split(',')) {
    const [name = '', value = 'true'] = part.split(/=(.*)/s, 2);
    fields[name.toLowerCase()] = value;
  }
  const type = fields['type'] ?? 'volume';
  const target = fields['target'] ?? fields['destination'] ?? fields['dst'];
  if (target === undefined) throw usageError(`invalid argument "${word}" for --mount: target is required`);
  const size = fields['tmpfs-size'];
  const mode = fields['tmpfs-mode'];
  return {
    Type: type,
    Target: target,
    Source: fields['source'] ?? fields['src'] ?? '',
    ReadOnly: fields['readonly'] === 'true' || fields['ro'] === 'true',
    ...(fields['volume-nocopy'] === 'true' ? { VolumeOptions: { NoCopy: true } } : {}),
    ...(type !== 'tmpfs' || (size === undefined && mode === undefined)
      ? {}
      : {
          TmpfsOptions: {
            ...(size === undefined ? {} : { SizeBytes: bytesOf(size, '--mount') }),
            ...(mode === undefined ? {} : { Mode: Number.parseInt(mode, 8) }),
          },
        }),
  };
}

function parseUlimit(word: string): object {
  const found = /^([a-z]+)=(-?[0-9]+)(?::(-?[0-9]+))?$/.exec(word);
  if (found === null) throw usageError(`invalid argument "${word}" for --ulimit: expected name=soft[:hard]`);
  return { Name: found[1], Soft: Number(found[2]), Hard: Number(found[3] ?? found[2]) };
}

function parseRestart(word: string): object {
  const [name = '', count = '0'] = word.split(':');
  if (!/^[0-9]+$/.test(count))
    throw usageError(`invalid argument "${word}" for --restart: maximum retry count must be an integer`);
  return { Name: name, MaximumRetryCount: Number(count) };
}

function checkHost(word: string): string {
  const cut = word.search(/[:=]/);
  if (cut <= 0 || cut === word.length - 1)
    throw usageError(`invalid argument "${word}" for --add-host: bad format, expected name:address`);
  return `${word.slice(0, cut)}:${word.slice(cut + 1).replace(/^\[(.*)\]$/, '$1')}`;
}
