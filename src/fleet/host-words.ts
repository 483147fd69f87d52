/** What names and UUIDs of hosts say of who they are. Pure. */

/** Without its domain, however it is written. */
export function firstLabel(name: string): string {
  return name.toLowerCase().split('.', 1)[0] ?? '';
}

/**
 * Numbers that makers of mainboards left in the firmware of many, in both byte orders: they tell nothing apart. No list of
 * them is official.
 */
const SHARED_UUIDS: ReadonlySet<string> = new Set([
  '03000200-0400-0500-0006-000700080009',
  '00020003-0004-0005-0006-000700080009',
  '12345678-1234-5678-90ab-cddeefaabbcc',
  '78563412-3412-7856-90ab-cddeefaabbcc',
]);

export function isSharedUuid(uuid: string): boolean {
  return SHARED_UUIDS.has(uuid) || new Set(uuid.replaceAll('-', '')).size === 1;
}
