import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Mailbox } from './mailbox.ts';

const gone = (nativeId: string) => ({ kind: 'gone' as const, nativeId });

test('changes come out in their order, before the wish to look; the end goes before all', async () => {
  const mailbox = new Mailbox();
  mailbox.askForLook();
  mailbox.add(gone('a'));
  mailbox.add(gone('b'));
  assert.equal(await mailbox.next(60_000), 'change');
  assert.deepEqual(mailbox.take(), [gone('a'), gone('b')]);
  assert.equal(await mailbox.next(60_000), 'look');
  assert.equal(await mailbox.next(1), 'time');
  mailbox.add(gone('c'));
  mailbox.end();
  assert.equal(await mailbox.next(60_000), 'over');
});

test('what was missed, or is too much to keep, is looked at anew', async () => {
  const mailbox = new Mailbox();
  mailbox.add({ kind: 'missed' });
  assert.equal(await mailbox.next(60_000), 'look');
  for (let count = 0; count < 10_001; count += 1) mailbox.add(gone(String(count)));
  assert.equal(mailbox.take().length, 10_000);
  assert.equal(await mailbox.next(60_000), 'look');
});

test('who waits is woken', async () => {
  const mailbox = new Mailbox();
  const waiting = mailbox.next(60_000);
  mailbox.add(gone('a'));
  assert.equal(await waiting, 'change');
});
