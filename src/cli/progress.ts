/** The daemon's progress objects as text: bars that move on a terminal, otherwise a line for each new word. Pure. */
import { humanSize } from './tables.ts';

export interface ProgressLine {
  readonly id?: string;
  readonly status?: string;
  readonly stream?: string;
  readonly progressDetail?: { readonly current?: number; readonly total?: number };
  readonly error?: string;
}

const BAR_WIDTH = 30;

export class ProgressPrinter {
  readonly #terminal: boolean;
  /** Line number of each id since the first of them, on a terminal; its last word otherwise. */
  readonly #rows = new Map<string, number>();
  readonly #words = new Map<string, string>();

  constructor(terminal: boolean) {
    this.#terminal = terminal;
  }

  /** What is to be written for this object: nothing when it says nothing new. */
  add(line: ProgressLine): string {
    if (line.stream !== undefined) return line.stream;
    const { id, status = '' } = line;
    if (id === undefined) {
      this.#rows.clear();
      return `${status}\n`;
    }
    if (!this.#terminal) {
      if (this.#words.get(id) === status) return '';
      this.#words.set(id, status);
      return `${id}: ${status}\n`;
    }
    const text = `${id}: ${status}${bar(line.progressDetail)}`;
    const row = this.#rows.get(id);
    if (row === undefined) {
      this.#rows.set(id, this.#rows.size);
      return `${text}\n`;
    }
    const up = this.#rows.size - row;
    return `\u001b[${up}A\r\u001b[2K${text}\u001b[${up}B\r`;
  }
}

function bar(detail: ProgressLine['progressDetail']): string {
  const { current = 0, total = 0 } = detail ?? {};
  if (current <= 0) return '';
  if (total <= 0) return ` ${humanSize(current)}`;
  const done = Math.min(BAR_WIDTH, Math.floor((BAR_WIDTH * current) / total));
  const filled = done === BAR_WIDTH ? '='.repeat(done) : `${'='.repeat(done)}>${' '.repeat(BAR_WIDTH - done - 1)}`;
  return ` [${filled}] ${humanSize(current)}/${humanSize(total)}`;
}
