import { BerthError } from './errors.ts';

declare const brand: unique symbol;
type Branded<T, Name extends string> = T & { readonly [brand]: Name };

/** 64 lower-case hex digits: a VM's id, Docker's container id. */
export type VmId = Branded<string, 'VmId'>;
/** `sha256:` and 64 lower-case hex digits: the digest of a blob, a manifest, a config (image id) or a layer (diffID). */
export type Digest = Branded<string, 'Digest'>;

const HEX_64 = /^[0-9a-f]{64}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;

/** @throws id.malformed (invalid) when `text` is not 64 hex digits. */
export function parseVmId(text: string): VmId {
  if (!HEX_64.test(text))
    throw new BerthError('invalid', 'id.malformed', `VM id ${JSON.stringify(text)} is not 64 hex digits`);
  return text as VmId;
}

export function isDigest(text: string): text is Digest {
  return DIGEST.test(text);
}

/** @throws digest.malformed (invalid) when `text` is not `sha256:` and 64 hex digits. */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) {
    throw new BerthError(
      'invalid',
      'digest.malformed',
      `digest ${JSON.stringify(text)} is not sha256: and 64 hex digits`,
    );
  }
  return text;
}

/** The first 12 digits, as people read ids. */
export function shortId(id: string): string {
  return id.replace(/^sha256:/, '').slice(0, 12);
}
