/** Drawing in SVG by hand. Pure: the same figures give the same bytes. Names come from outside and are escaped here. */

/** Told apart by those who do not see red and green, too; the last is for "all others". */
export const COLOURS = [
  '#0b62a4',
  '#c75200',
  '#2a7f62',
  '#7a3e9d',
  '#a8324a',
  '#8a6d00',
  '#3d5a80',
  '#00838f',
  '#6d4c41',
  '#777777',
] as const;
export const OTHERS = COLOURS.length - 1;

export function escaped(text: string): string {
  return text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, '\ufffd')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** A rectangle that says what it is when it is pointed at. */
export function rectangle({ x, y, width, height }: Box, attributes: string, title?: string): string {
  const [left, top, w, h] = [x, y, width, height].map((value) => value.toFixed(2).replace(/\.?0+$/, ''));
  const shape = `<rect x="${left}" y="${top}" width="${w}" height="${h}" ${attributes}`;
  return title === undefined ? `${shape}/>` : `${shape}><title>${escaped(title)}</title></rect>`;
}

export function label(x: number, y: number, text: string, attributes = ''): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${attributes}>${escaped(text)}</text>`;
}

export function drawing(
  name: string,
  size: { readonly width: number; readonly height: number },
  content: string,
): string {
  const { width, height } = size;
  return `<svg id="${name}" role="img" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">${content}</svg>`;
}

/** At most `length` characters. */
export function shortened(text: string, length: number): string {
  const characters = [...text];
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join('')}…`;
}
