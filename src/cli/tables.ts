/** Tables and quantities as Docker prints them. Pure. */

/** Each column as wide as its widest cell and three blanks, at least ten; the last one is not padded. */
export function renderTable(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows)
    for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 10, [...cell].length + 3);
  const lines = rows.map((row) =>
    row
      .map((cell, index) =>
        index === row.length - 1 ? cell : cell + ' '.repeat((widths[index] ?? 0) - [...cell].length),
      )
      .join(''),
  );
  return lines.map((line) => `${line}\n`).join('');
}

/** `1536` → `1.54kB`: decimal multiples, three significant digits. */
export function humanSize(bytes: number): string {
  const names = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes;
  let index = 0;
  while (value >= 1000 && index < names.length - 1) {
    value /= 1000;
    index += 1;
  }
  return `${Number(value.toPrecision(3))}${names[index]}`;
}

/** At most `width` characters, the last one an ellipsis when something was cut. */
export function ellipsis(text: string, width: number): string {
  const characters = [...text];
  return characters.length <= width ? text : `${characters.slice(0, width - 1).join('')}…`;
}

export interface PortEntry {
  readonly IP?: string;
  readonly PrivatePort: number;
  readonly PublicPort?: number;
  readonly Type: string;
}

/**
 * The PORTS column: `0.0.0.0:8080->80/tcp, 443/tcp`; neighbouring ports that map to themselves become ranges.
 *
 * @source docker/cli, formatter.DisplayablePorts (behaviour)
 */
export function portsText(ports: readonly PortEntry[]): string {
  const sorted = [...ports].sort(
    (a, b) =>
      a.PrivatePort - b.PrivatePort ||
      compare(a.IP ?? '', b.IP ?? '') ||
      (a.PublicPort ?? 0) - (b.PublicPort ?? 0) ||
      compare(a.Type, b.Type),
  );
  const open = new Map<string, { first: number; last: number }>();
  const ranges: string[] = [];
  const mappings: string[] = [];
  for (const { IP = '', PrivatePort, PublicPort = 0, Type } of sorted) {
    const address = IP.includes(':') ? `[${IP}]` : IP;
    if (IP !== '' && PublicPort !== PrivatePort) {
      mappings.push(`${address}:${PublicPort}->${PrivatePort}/${Type}`);
      continue;
    }
    const key = `${address}/${Type}`;
    const range = open.get(key);
    if (range !== undefined && PrivatePort === range.last + 1) {
      range.last = PrivatePort;
      continue;
    }
    if (range !== undefined) ranges.push(rangeText(key, range));
    open.set(key, { first: PrivatePort, last: PrivatePort });
  }
  for (const [key, range] of open) ranges.push(rangeText(key, range));
  return [...ranges, ...mappings].join(', ');
}

function rangeText(key: string, { first, last }: { first: number; last: number }): string {
  const slash = key.lastIndexOf('/');
  const address = key.slice(0, slash);
  const range = first === last ? `${first}` : `${first}-${last}`;
  return `${address === '' ? range : `${address}:${range}->${range}`}${key.slice(slash)}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
