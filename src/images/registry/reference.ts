/** Image names as Docker reads and prints them. Source: github.com/distribution/reference, reference.go and normalize.go. */
import { BerthError, type Digest, isDigest } from '#base';

export interface ImageReference {
  /** `docker.io`, `localhost:5000` ... */
  readonly domain: string;
  /** `library/ubuntu` */
  readonly path: string;
  /** Present unless a digest alone was given; `latest` when neither was. */
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

const DEFAULT_DOMAIN = 'docker.io';
const OFFICIAL_PREFIX = 'library/';
const DOMAIN =
  /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?$/;
const PATH = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
/** distribution/reference's own limit on a repository's path, characters. */
const NAME_MAX = 255;

function invalid(message: string): BerthError {
  return new BerthError('invalid', 'reference.invalid', message);
}

/** @throws reference.invalid (invalid), with Docker's texts. */
export function parseReference(text: string): ImageReference {
  if (/^[0-9a-f]{64}$/.test(text)) {
    throw invalid(`invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`);
  }
  const at = text.indexOf('@');
  const beforeDigest = at < 0 ? text : text.slice(0, at);
  let digest: Digest | undefined;
  if (at >= 0) {
    const candidate = text.slice(at + 1);
    if (!isDigest(candidate)) throw invalid('invalid reference format');
    digest = candidate;
  }
  const { domain, rest } = splitDomain(beforeDigest);
  const colon = rest.indexOf(':');
  const path = colon < 0 ? rest : rest.slice(0, colon);
  const tag = colon < 0 ? undefined : rest.slice(colon + 1);
  if (path !== path.toLowerCase()) {
    throw invalid(`invalid reference format: repository name (${path}) must be lowercase`);
  }
  if (!DOMAIN.test(domain) || !PATH.test(path) || (tag !== undefined && !TAG.test(tag))) {
    throw invalid('invalid reference format');
  }
  if (path.length > NAME_MAX) throw invalid(`repository name must not be more than ${NAME_MAX} characters`);
  return { domain, path, tag: tag ?? (digest === undefined ? 'latest' : undefined), digest };
}

function splitDomain(name: string): { domain: string; rest: string } {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  const isDomain = first !== '' && (/[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase());
  const domain = isDomain ? (first === 'index.docker.io' ? DEFAULT_DOMAIN : first) : DEFAULT_DOMAIN;
  const rest = isDomain ? name.slice(slash + 1) : name;
  return { domain, rest: domain === DEFAULT_DOMAIN && !rest.includes('/') ? OFFICIAL_PREFIX + rest : rest };
}

/** `docker.io/library/ubuntu` */
export function repositoryOf(reference: ImageReference): string {
  return `${reference.domain}/${reference.path}`;
}

/** The key under which an image is stored: with the tag where there is one, else with the digest. */
export function canonicalName(reference: ImageReference): string {
  const repository = repositoryOf(reference);
  return reference.tag === undefined ? `${repository}@${reference.digest}` : `${repository}:${reference.tag}`;
}

/** A canonical name or repository as people write it: `docker.io/library/` and `docker.io/` are left out. */
export function familiarName(name: string): string {
  if (!name.startsWith(`${DEFAULT_DOMAIN}/`)) return name;
  const rest = name.slice(DEFAULT_DOMAIN.length + 1);
  const short = rest.startsWith(OFFICIAL_PREFIX) ? rest.slice(OFFICIAL_PREFIX.length) : rest;
  return short.includes('/') || !rest.startsWith(OFFICIAL_PREFIX) ? rest : short;
}

/** `ubuntu:latest`, `ubuntu@sha256:…` or both, as Docker's messages show a reference. */
export function familiarReference(reference: ImageReference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  const digest = reference.digest === undefined ? '' : `@${reference.digest}`;
  return familiarName(repositoryOf(reference)) + tag + digest;
}
