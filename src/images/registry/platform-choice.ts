/** Which of a multi-platform image's manifests to take. */
import { BerthError } from '#base';
import type { Descriptor, ImageConfig } from './manifest.ts';

export interface ImagePlatform {
  readonly os: string;
  /** Go's names: amd64, arm64, arm, 386, ppc64le, s390x, riscv64. */
  readonly architecture: string;
  readonly variant: string | undefined;
}

/** Node's names for processors where Go's, which images use, differ. */
const GO_ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: '386',
  ppc64: 'ppc64le',
  x86_64: 'amd64',
  aarch64: 'arm64',
  armhf: 'arm',
  i386: '386',
};

export function hostPlatform(): ImagePlatform {
  return { os: 'linux', architecture: GO_ARCHITECTURES[process.arch] ?? process.arch, variant: undefined };
}

/** `linux/arm64/v8`, `linux/amd64` or `amd64`. @throws platform.invalid (invalid). */
export function parsePlatform(text: string): ImagePlatform {
  const parts = text.toLowerCase().split('/');
  if (parts.length > 3 || parts.some((part) => !/^[a-z0-9_.-]+$/.test(part))) {
    throw new BerthError('invalid', 'platform.invalid', `"${text}" is not a platform like linux/amd64`);
  }
  const [first = '', second, third] = parts;
  const bare = second === undefined;
  const architecture = bare ? (first === 'linux' ? hostPlatform().architecture : first) : second;
  return { os: bare ? 'linux' : first, architecture: GO_ARCHITECTURES[architecture] ?? architecture, variant: third };
}

export function formatPlatform(platform: {
  os: string;
  architecture: string;
  variant?: string | undefined | null;
}): string {
  return [platform.os, platform.architecture, ...(platform.variant ? [platform.variant] : [])].join('/');
}

/** @throws platform.no_match (not_found), with Docker's text. */
export function choosePlatform(manifests: readonly Descriptor[], wanted: ImagePlatform): Descriptor {
  const candidates = manifests.filter(({ platform }) => platform != null && matches(platform, wanted));
  // Without a wanted variant the plain entry goes first; 64-bit ARM has one real variant, v8.
  const best = candidates.find(({ platform }) => (platform?.variant ?? undefined) === wanted.variant) ?? candidates[0];
  if (best === undefined) {
    throw new BerthError(
      'not_found',
      'platform.no_match',
      `no matching manifest for ${formatPlatform(wanted)} in the manifest list entries`,
      {
        hint: `it offers ${manifests.map(({ platform }) => (platform == null ? '?' : formatPlatform(platform))).join(', ')}`,
      },
    );
  }
  return best;
}

function matches(offered: NonNullable<Descriptor['platform']>, wanted: ImagePlatform): boolean {
  if (offered.os !== wanted.os || offered.architecture !== wanted.architecture) return false;
  if (wanted.variant === undefined || !offered.variant) return true;
  return offered.variant === wanted.variant;
}

/** @throws platform.mismatch (invalid) when a single manifest's config says another platform. */
export function checkPlatform(config: ImageConfig, wanted: ImagePlatform, name: string): void {
  const isOther =
    (config.os !== '' && config.os !== wanted.os) ||
    (config.architecture !== '' && config.architecture !== wanted.architecture);
  if (!isOther) return;
  throw new BerthError(
    'not_found',
    'platform.mismatch',
    `image with reference ${name} was found but its platform (${formatPlatform(config)}) does not match the specified platform (${formatPlatform(wanted)})`,
  );
}
