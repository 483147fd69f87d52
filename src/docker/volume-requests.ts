/** What a create call says about volumes: `-v NAME:/path[:options]` and `--mount type=volume,...`. Pure. */
import { posix } from 'node:path';
import { BerthError } from '#base';
import { VOLUME_SLOTS, type VolumeMount } from '#engine';
import { VOLUME_NAME, type VolumeRequest } from '#storage';
import type { HostConfig } from './create-body.ts';
import { sizeOption } from './size-option.ts';

/** Of `-v`: what changes nothing here, since no other kernel sees the mount. @source Docker, volume flags */
const HARMLESS = new Set(['rw', 'z', 'Z', 'consistent', 'cached', 'delegated']);

export interface WantedVolumes {
  readonly mounts: readonly VolumeMount[];
  /** The volumes to make where there are none of that name yet. */
  readonly requests: readonly (VolumeRequest & { readonly name: string })[];
  /** Places without a volume's name. */
  readonly anonymous: readonly string[];
}

type Mount = NonNullable<HostConfig['Mounts']>[number];

/** @throws create.invalid (invalid) in dockerd's words where it has some; create.unsupported (unsupported) */
export function wantedVolumes(host: Partial<HostConfig>): WantedVolumes {
  const named = (host.Mounts ?? []).filter((mount) => mount.Type === 'volume' && (mount.Source ?? '') !== '');
  const anonymous = (host.Mounts ?? []).filter((mount) => mount.Type === 'volume' && (mount.Source ?? '') === '');
  const wanted = [...(host.Binds ?? []).map(parseBind), ...named.map(parseMount)];
  const mounts = wanted.map(({ mount }) => mount).sort((a, b) => (a.path < b.path ? -1 : 1));
  for (const [index, mount] of mounts.entries()) {
    if (mounts[index + 1]?.path === mount.path) throw invalid(`Duplicate mount point: ${mount.path}`);
    if (mounts.slice(index + 1).some((other) => other.volume === mount.volume))
      throw invalid(`volume ${mount.volume} is asked for in two places: a VM has a volume in one`);
  }
  if (mounts.length > VOLUME_SLOTS)
    throw invalid(`${mounts.length} volumes are asked for: a VM has at most ${VOLUME_SLOTS}`);
  return {
    mounts,
    requests: wanted.map(({ request }) => request),
    anonymous: anonymous.map((mount) => checkPath(mount.Target ?? '')),
  };
}

interface Wanted {
  readonly mount: VolumeMount;
  readonly request: VolumeRequest & { readonly name: string };
}

function parseBind(text: string): Wanted {
  const [source = '', target = '', options = '', ...more] = text.split(':');
  if (target === '' || more.length > 0) throw invalid(`invalid volume specification: '${text}'`);
  if (source.startsWith('/') || source.startsWith('.') || source.startsWith('~')) {
    throw unsupported(
      `the host folder ${source} (-v ${text})`,
      'a VM shares no folders with its host: put the data into an image or a volume (-v NAME:/path)',
    );
  }
  let [readOnly, fill] = [false, true];
  for (const option of options.split(',').filter((word) => word !== '')) {
    if (option === 'ro') readOnly = true;
    else if (option === 'nocopy') fill = false;
    else if (!HARMLESS.has(option)) throw invalid(`invalid volume specification: '${text}': invalid mode: ${option}`);
  }
  return { mount: { volume: checkName(source), path: checkPath(target), readOnly, fill }, request: { name: source } };
}

function parseMount(mount: Mount): Wanted {
  const { Source = '', Target = '', ReadOnly, VolumeOptions: options } = mount;
  if (options?.Subpath) throw unsupported('VolumeOptions.Subpath', 'mount the whole volume');
  const driver = options?.DriverConfig;
  return {
    mount: {
      volume: checkName(Source ?? ''),
      path: checkPath(Target ?? ''),
      readOnly: ReadOnly === true,
      fill: options?.NoCopy !== true,
    },
    request: { name: Source ?? '', labels: options?.Labels ?? {}, ...driverOptions(driver?.Name, driver?.Options) },
  };
}

/**
 * The one driver's one option.
 *
 * @throws volume.driver (not_found), create.unsupported (unsupported), create.invalid (invalid)
 */
export function driverOptions(
  driver: string | null | undefined,
  options: Readonly<Record<string, string>> | null | undefined,
): Pick<VolumeRequest, 'sizeBytes' | 'options'> {
  if ((driver ?? '') !== '' && driver !== 'local') {
    const text = `error looking up volume plugin ${driver}: plugin "${driver}" not found`;
    throw new BerthError('not_found', 'volume.driver', text, { hint: 'the only driver is "local"' });
  }
  for (const name of Object.keys(options ?? {}))
    if (name !== 'size')
      throw unsupported(`the volume option ${name}`, 'the only option is size, as in --opt size=20g');
  const size = options?.['size'];
  return size === undefined ? {} : { sizeBytes: sizeOption(size, `volume option size=${size}`), options: { size } };
}

function checkName(name: string): string {
  if (VOLUME_NAME.test(name)) return name;
  throw invalid(
    `create ${name}: ${JSON.stringify(name)} includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
  );
}

function checkPath(path: string): string {
  if (!path.startsWith('/')) throw invalid(`invalid mount path: '${path}' mount path must be absolute`);
  if (/\0/.test(path)) throw invalid('invalid mount path: it holds a NUL');
  const normal = posix.normalize(path).replace(/(.)\/$/, '$1');
  if (normal === '/') throw invalid("invalid specification: destination can't be '/'");
  return normal;
}

function invalid(message: string): BerthError {
  return new BerthError('invalid', 'create.invalid', message);
}

function unsupported(what: string, hint: string): BerthError {
  return new BerthError('unsupported', 'create.unsupported', `${what} is not supported`, { hint });
}
