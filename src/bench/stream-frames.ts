/** Bytes before each piece of output: one of the stream, three zeros, four of the length. */
const HEADER_BYTES = 8;

/**
 * The text of a stream of Docker's frames as far as it has come; a frame may still be incomplete. Pure.
 *
 * @source Docker Engine API, ContainerAttach, "Stream format"
 */
export function unframe(bytes: Buffer): string {
  const parts: Buffer[] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const end = at + HEADER_BYTES + bytes.readUInt32BE(at + 4);
    parts.push(bytes.subarray(at + HEADER_BYTES, end));
    at = end;
  }
  return Buffer.concat(parts).toString();
}
