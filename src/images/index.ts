export { type BuiltInContent, busyboxImage } from './busybox-image.ts';
export {
  type BuiltInImage,
  type ImageCatalog,
  type ImageNames,
  ImageService,
  type ImageTransfers,
} from './image-service.ts';
export type {
  GarbageOptions,
  GarbageResult,
  HistoryEntry,
  ImageDetails,
  ImageDiskUsage,
  ImageSummary,
  ImageUser,
  ImportOptions,
  LoadOptions,
  LoadResult,
  ProgressEvent,
  ProgressListener,
  PullOptions,
  PullResult,
  RemovedItem,
  RemoveOptions,
  RootDisk,
  RootDiskLayer,
  SearchResult,
} from './operations/image-types.ts';
export { readDockerCredentials } from './registry/docker-credentials.ts';
export type { HistoryItem, ImageConfig, RunConfig } from './registry/manifest.ts';
export {
  canonicalName,
  familiarName,
  familiarReference,
  type ImageReference,
  parseReference,
  repositoryOf,
} from './registry/reference.ts';
export type { RegistryCredentials } from './registry/registry-auth.ts';
