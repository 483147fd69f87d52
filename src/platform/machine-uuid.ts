/**
 * What tells this machine from every other one.
 *
 * @source Linux: Documentation/ABI/testing/sysfs-firmware-dmi-tables, product_uuid; machine-id(5), which asks to hand on only what
 *   is derived from it
 */
import { createHmac } from 'node:crypto';
import { readFile } from 'node:fs/promises';

const PURPOSE = 'berth host';

/**
 * UUIDs of this machine, the surest first, as they are written: its firmware's, which may be nonsense and takes root to
 * read, then one made of its machine-id.
 */
export async function machineUuids(): Promise<readonly string[]> {
  const [product, machineId] = await Promise.all(
    ['/sys/class/dmi/id/product_uuid', '/etc/machine-id'].map((path) => readFile(path, 'utf8').catch(() => '')),
  );
  return [(product ?? '').trim(), derivedUuid((machineId ?? '').trim())].filter((one) => one !== '');
}

/** Version 8 of RFC 9562; empty for what is no machine-id. */
export function derivedUuid(machineId: string): string {
  if (!/^[0-9a-f]{32}$/.test(machineId)) return '';
  const bytes = createHmac('sha256', Buffer.from(machineId, 'hex')).update(PURPOSE).digest().subarray(0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = bytes.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}
