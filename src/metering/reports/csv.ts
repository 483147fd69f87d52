/** Comma-separated values. @source RFC 4180 */

/** One line with its line end. Cells with commas, quotes or line breaks are quoted; `undefined` is an empty cell. */
export function csvLine(cells: readonly (string | undefined)[]): string {
  return `${cells.map((cell) => (cell === undefined ? '' : quoted(cell))).join(',')}\r\n`;
}

/**
 * As `csvLine`, for people who open it in a spreadsheet: a text that a spreadsheet would run as a formula gets an
 * apostrophe before it. VM names come from outside. Numbers stay numbers.
 */
export function spreadsheetLine(cells: readonly (string | undefined)[]): string {
  return csvLine(
    cells.map((cell) =>
      cell !== undefined && /^[=+\-@\t\r]/.test(cell) && !/^-?\d+(\.\d+)?$/.test(cell) && cell !== '-'
        ? `'${cell}`
        : cell,
    ),
  );
}

function quoted(cell: string): string {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}
