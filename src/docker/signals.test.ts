import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSignal } from './signals.ts';

test('signals come by name, with or without SIG, and by number', () => {
  const expected: [string, number][] = [
    ['KILL', 9],
    ['SIGKILL', 9],
    ['sigterm', 15],
    ['15', 15],
    ['usr1', 10],
    ['RTMIN', 34],
    ['SIGRTMIN+3', 37],
    ['RTMAX', 64],
    ['RTMAX-1', 63],
  ];
  for (const [text, number] of expected) assert.equal(parseSignal(text), number, text);
  for (const text of ['', '0', '65', '-9', 'FOO', 'RTMIN-1', 'RTMAX+1', 'RTMIN+31', '1.5']) {
    assert.throws(() => parseSignal(text), { code: 'signal.unknown', message: `Invalid signal: ${text}` }, text);
  }
});
