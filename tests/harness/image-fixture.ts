/** Images made of nothing but bytes, for registries and archives in tests. */
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { tarEnd, tarFile, tarHeader } from '../../src/images/tar/tar-writer.ts';
import { type PushTarget, pushBlob, pushManifest, sha256 } from './registry.ts';

export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
export const HOST_ARCHITECTURE = process.arch === 'arm64' ? 'arm64' : 'amd64';

export interface FixtureLayer {
  readonly tar: Buffer;
  readonly compression?: 'gzip' | 'zstd' | 'none';
}

export interface PushedImage {
  readonly id: string;
  readonly manifestDigest: string;
  readonly manifestBytes: number;
  readonly diffIds: readonly string[];
  readonly blobs: readonly { readonly digest: string; readonly sizeBytes: number }[];
}

export function layerTar(contents: Readonly<Record<string, string | Uint8Array>>): Buffer {
  const files = Object.entries(contents).map(([path, content]) => tarFile(path, content));
  return Buffer.concat([tarHeader({ path: 'etc', type: 'directory' }), ...files, tarEnd()]);
}

export function compress(layer: FixtureLayer): Buffer {
  if (layer.compression === 'none') return layer.tar;
  return layer.compression === 'zstd' ? zstdCompressSync(layer.tar) : gzipSync(layer.tar, { level: 6 });
}

export function imageConfig(diffIds: readonly string[], architecture: string = HOST_ARCHITECTURE): Buffer {
  const config = {
    architecture,
    os: 'linux',
    created: '2024-05-01T12:00:00Z',
    config: { Env: ['A=1'], Cmd: ['/bin/sh'] },
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: diffIds.map((_, index) => ({ created: '2024-05-01T12:00:00Z', created_by: `step ${index}` })),
  };
  return Buffer.from(JSON.stringify(config));
}

export async function pushImage(
  target: PushTarget,
  tag: string,
  image: { readonly layers: readonly FixtureLayer[]; readonly architecture?: string },
): Promise<PushedImage> {
  const diffIds = image.layers.map(({ tar }) => sha256(tar));
  const config = imageConfig(diffIds, image.architecture);
  const id = await pushBlob(target, config);
  const blobs: { digest: string; sizeBytes: number }[] = [];
  const layers: { mediaType: string; digest: string; size: number }[] = [];
  for (const layer of image.layers) {
    const bytes = compress(layer);
    const digest = await pushBlob(target, bytes);
    const suffix = layer.compression === 'none' ? '' : `+${layer.compression ?? 'gzip'}`;
    blobs.push({ digest, sizeBytes: bytes.length });
    layers.push({ mediaType: `application/vnd.oci.image.layer.v1.tar${suffix}`, digest, size: bytes.length });
  }
  const manifest = {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: id, size: config.length },
    layers,
  };
  const manifestDigest = await pushManifest(target, tag, manifest);
  return { id, manifestDigest, manifestBytes: JSON.stringify(manifest).length, diffIds, blobs };
}
