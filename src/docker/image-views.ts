/** What Docker's clients are shown of an image: pure translations. */
import type { ImageDetails, ImageSummary } from '#images';
import { rfc3339 } from './durations.ts';

export function imageListEntry(image: ImageSummary, containers: number): object {
  return {
    Id: image.id,
    ParentId: '',
    RepoTags: image.tags,
    RepoDigests: image.repoDigests,
    Created: Math.floor(image.createdAtMs / 1000),
    Size: image.sizeBytes,
    SharedSize: image.sharedBytes,
    VirtualSize: image.sizeBytes,
    Labels: image.labels,
    Containers: containers,
  };
}

export function imageInspectView(image: ImageDetails): object {
  const { config } = image;
  const run = config.config;
  return {
    Id: image.id,
    RepoTags: image.tags,
    RepoDigests: image.repoDigests,
    Parent: '',
    Comment: config.history.at(-1)?.comment ?? '',
    Created: config.created ?? rfc3339(image.createdAtMs),
    DockerVersion: '',
    Author: config.author ?? '',
    Config: {
      Hostname: '',
      Domainname: '',
      User: run.User ?? '',
      AttachStdin: false,
      AttachStdout: false,
      AttachStderr: false,
      ...(run.ExposedPorts ? { ExposedPorts: run.ExposedPorts } : {}),
      Tty: false,
      OpenStdin: false,
      StdinOnce: false,
      Env: run.Env ?? [],
      Cmd: run.Cmd ?? null,
      Image: '',
      Volumes: run.Volumes ?? null,
      WorkingDir: run.WorkingDir ?? '',
      Entrypoint: run.Entrypoint ?? null,
      OnBuild: run.OnBuild ?? null,
      Labels: run.Labels ?? null,
      ...(run.StopSignal ? { StopSignal: run.StopSignal } : {}),
      ...(run.Shell ? { Shell: run.Shell } : {}),
      ...(run.Healthcheck ? { Healthcheck: run.Healthcheck } : {}),
    },
    Architecture: config.architecture,
    ...(config.variant ? { Variant: config.variant } : {}),
    Os: config.os,
    Size: image.sizeBytes,
    VirtualSize: image.sizeBytes,
    GraphDriver: { Data: null, Name: 'erofs-overlay' },
    RootFS: { Type: 'layers', Layers: config.diffIds },
    Metadata: { LastTagTime: rfc3339(image.taggedAtMs) },
  };
}
