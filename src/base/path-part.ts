import { BerthError } from './errors.ts';

/** Text of one part of a request's path. @throws route.malformed (invalid) */
export function decodePathPart(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new BerthError(
      'invalid',
      'route.malformed',
      `the path part ${JSON.stringify(text)} is not percent-encoded text`,
    );
  }
}
