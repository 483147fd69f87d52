/** Binary multiples in bytes. */
export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

/** `1536` → `1.5kB`: decimal multiples with up to four significant digits, as Docker prints sizes. */
export function formatDecimalBytes(bytes: number): string {
  const names = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes;
  let index = 0;
  while (value >= 1000 && index < names.length - 1) {
    value /= 1000;
    index += 1;
  }
  return `${Number.parseFloat(value.toPrecision(4))}${names[index]}`;
}
