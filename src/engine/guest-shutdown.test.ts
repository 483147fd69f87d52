import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crashReport } from './guest-shutdown.ts';

test('a panic is quoted from its first line on; a quiet console is no crash', () => {
  const console =
    'boot\r\n[ 1.0] Kernel panic - not syncing: sysrq triggered crash\r\n[ 1.1] CPU: 0\r\n[ 1.2] Call Trace:\r\nmore\r\n';
  assert.equal(
    crashReport(console),
    'the guest crashed; last words on its console: [ 1.0] Kernel panic - not syncing: sysrq triggered crash; [ 1.1] CPU: 0; [ 1.2] Call Trace:',
  );
  assert.equal(crashReport('[ 5.0] reboot: Power down\n'), '');
  assert.match(crashReport('berth: fatal: no virtio port named berth.agent'), /no virtio port/);
});
