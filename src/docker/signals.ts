import { BerthError } from '#base';

/** Linux signal numbers by name, x86-64 and arm64. @source signal(7) */
const NUMBER_OF: Readonly<Record<string, number>> = {
  HUP: 1,
  INT: 2,
  QUIT: 3,
  ILL: 4,
  TRAP: 5,
  ABRT: 6,
  IOT: 6,
  BUS: 7,
  FPE: 8,
  KILL: 9,
  USR1: 10,
  SEGV: 11,
  USR2: 12,
  PIPE: 13,
  ALRM: 14,
  TERM: 15,
  STKFLT: 16,
  CHLD: 17,
  CONT: 18,
  STOP: 19,
  TSTP: 20,
  TTIN: 21,
  TTOU: 22,
  URG: 23,
  XCPU: 24,
  XFSZ: 25,
  VTALRM: 26,
  PROF: 27,
  WINCH: 28,
  IO: 29,
  POLL: 29,
  PWR: 30,
  SYS: 31,
};

/** `TERM`, `SIGTERM`, `15`, `RTMIN+3`. @throws signal.unknown (invalid), in dockerd's words. */
export function parseSignal(text: string): number {
  const name = text.toUpperCase().replace(/^SIG/, '');
  const number = /^[0-9]+$/.test(name) ? Number(name) : (NUMBER_OF[name] ?? realTime(name));
  if (number === undefined || number < 1 || number > 64) {
    throw new BerthError('invalid', 'signal.unknown', `Invalid signal: ${text}`);
  }
  return number;
}

function realTime(name: string): number | undefined {
  const found = /^RT(MIN|MAX)(?:([+-])([0-9]{1,2}))?$/.exec(name);
  if (found === null) return undefined;
  const offset = found[3] === undefined ? 0 : Number(`${found[2]}${found[3]}`);
  // glibc keeps 32 and 33 for itself.
  const number = (found[1] === 'MIN' ? 34 : 64) + offset;
  return number >= 34 && number <= 64 ? number : undefined;
}
