import { BerthError } from '#base';
import { type HttpResponse, readWhole } from '#platform';

/** The whole body. @throws registry.too_large (invalid): cut at once when it exceeds `maxBytes`. */
export async function readBody(response: HttpResponse, maxBytes: number, what: string): Promise<Buffer> {
  const tooLarge = (): BerthError =>
    new BerthError('invalid', 'registry.too_large', `${what} exceeds the limit of ${maxBytes} bytes`);
  return await readWhole(response.body, { mostBytes: maxBytes, tooLarge });
}
