import { BerthError } from '#base';
import type { HttpResponse } from '#platform';

/** The whole body. @throws registry.too_large (invalid): cut at once when it exceeds `maxBytes`. */
export async function readBody(response: HttpResponse, maxBytes: number, what: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response.body) {
      const part = chunk as Buffer;
      bytes += part.length;
      if (bytes > maxBytes) {
        throw new BerthError('invalid', 'registry.too_large', `${what} exceeds the limit of ${maxBytes} bytes`);
      }
      chunks.push(part);
    }
  } finally {
    response.body.destroy();
  }
  return Buffer.concat(chunks, bytes);
}
