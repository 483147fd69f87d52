import { BerthError, GIB, MIB } from '#base';

/** Bytes, whole MiB, of sizes as users write them: `20g`, `512m`. @throws create.invalid (invalid) naming `what` */
export function sizeOption(text: string, what: string): number {
  const found = /^([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)i?b?$/i.exec(text);
  if (found === null) throw invalid(`invalid ${what}: expected a number with k, m, g or t`);
  const bytes = Number(found[1]) * 1024 ** ' kmgt'.indexOf((found[2] || ' ').toLowerCase());
  if (bytes < 64 * MIB || bytes > 16 * 1024 * GIB) throw invalid(`invalid ${what}: it is from 64m to 16t`);
  return Math.ceil(bytes / MIB) * MIB;
}

function invalid(message: string): BerthError {
  return new BerthError('invalid', 'create.invalid', message);
}
