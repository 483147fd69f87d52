import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resolveSettings } from './daemon-settings.ts';

const root = { flags: {}, env: {}, uid: 0, home: '/root' };

test('root has the system folders', () => {
  assert.deepEqual(resolveSettings(root), {
    stateFolder: '/var/lib/berth',
    runFolder: '/run/berth',
    socket: '/run/berth/berth.sock',
    isRoot: true,
  });
});

test('another state folder has a run folder of its own, the same each time', () => {
  const first = resolveSettings({ ...root, env: { BERTH_STATE_DIR: '/srv/vms/' } });
  assert.equal(first.stateFolder, '/srv/vms');
  assert.match(first.runFolder, /^\/run\/berth-[0-9a-f]{8}$/);
  assert.deepEqual(resolveSettings({ ...root, flags: { stateDir: '/srv/vms' } }), first);
});

test('flags win over the environment, which wins over the defaults', () => {
  const env = { BERTH_RUN_DIR: '/e', BERTH_SOCKET: '' };
  assert.equal(resolveSettings({ ...root, env }).socket, '/e/berth.sock');
  assert.equal(resolveSettings({ ...root, env, flags: { runDir: '/f' } }).runFolder, '/f');
  assert.equal(resolveSettings({ ...root, env: { ...env, BERTH_SOCKET: '/s' } }).socket, '/s');
});

test('other users have folders of their own', () => {
  const user = resolveSettings({ flags: {}, env: { XDG_RUNTIME_DIR: '/run/user/7' }, uid: 7, home: '/home/u' });
  assert.deepEqual([user.stateFolder, user.runFolder], ['/home/u/.local/share/berth', '/run/user/7/berth']);
});
