/** Reads comma-separated values. Pure. @source RFC 4180 */
import { BerthError } from '#base';
import type { CheckedTable } from './run-model.ts';

/** An unquoted empty cell is null; `""` is an empty text, which no FOCUS column may hold. @throws csv.malformed (invalid) */
export function readCsv(text: string, path: string): CheckedTable {
  const lines: (string | null)[][] = [];
  let line: (string | null)[] = [];
  let at = text.startsWith('\ufeff') ? 1 : 0;
  while (at < text.length) {
    let cell: string | null;
    if (text[at] === '"') {
      let value = '';
      for (at += 1; ; at += 1) {
        const end = text.indexOf('"', at);
        if (end < 0)
          throw new BerthError(
            'invalid',
            'csv.malformed',
            `${path} ends within a quoted cell of row ${lines.length + 1}`,
          );
        value += text.slice(at, end);
        at = end + 1;
        if (text[at] !== '"') break;
        value += '"';
      }
      cell = value;
    } else {
      const end = endOfCell(text, at);
      cell = end === at ? null : text.slice(at, end);
      at = end;
    }
    line.push(cell);
    if (text[at] === ',') {
      at += 1;
      if (at < text.length) continue;
      line.push(null);
    } else if (text.startsWith('\r\n', at)) at += 2;
    else if (text[at] === '\n') at += 1;
    else if (at < text.length)
      throw new BerthError(
        'invalid',
        'csv.malformed',
        `${path} has text after a quoted cell in row ${lines.length + 1}`,
      );
    lines.push(line);
    line = [];
  }
  const [head = [], ...rows] = lines;
  const columns = head.map((name) => name ?? '');
  const odd = rows.findIndex((row) => row.length !== columns.length);
  if (odd >= 0)
    throw new BerthError(
      'invalid',
      'csv.malformed',
      `row ${odd + 1} of ${path} has ${rows[odd]?.length} cells, not ${columns.length}`,
    );
  return { columns, rows };
}

function endOfCell(text: string, from: number): number {
  for (let at = from; at < text.length; at += 1) {
    const character = text[at];
    if (character === ',' || character === '\n' || (character === '\r' && text[at + 1] === '\n')) return at;
  }
  return text.length;
}
