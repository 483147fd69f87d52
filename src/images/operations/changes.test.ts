import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { applyChanges } from './changes.ts';

describe('Dockerfile instructions of an import', () => {
  test('each changes its part of the configuration', () => {
    const changed = applyChanges({ Env: ['A=1', 'B=2'] }, [
      'CMD ["/bin/sh", "-l"]',
      'entrypoint echo hi',
      'ENV A=3 C="with blanks" D=x\\ y',
      'ENV OLD the old form',
      'LABEL one=1 "two"=2',
      'EXPOSE 80 53/udp',
      'VOLUME /data /more',
      'WORKDIR /srv',
      'WORKDIR app',
      'USER 1000:1000',
      'STOPSIGNAL SIGINT',
      'HEALTHCHECK NONE',
    ]);
    assert.deepEqual(changed, {
      Env: ['A=3', 'B=2', 'C=with blanks', 'D=x y', 'OLD=the old form'],
      Cmd: ['/bin/sh', '-l'],
      Entrypoint: ['/bin/sh', '-c', 'echo hi'],
      Labels: { one: '1', two: '2' },
      ExposedPorts: { '80/tcp': {}, '53/udp': {} },
      Volumes: { '/data': {}, '/more': {} },
      WorkingDir: '/srv/app',
      User: '1000:1000',
      StopSignal: 'SIGINT',
      Healthcheck: { Test: ['NONE'] },
    });
  });

  test('what is no instruction is refused', () => {
    for (const bad of ['', 'CMD', 'RUN ls', 'EXPOSE http', 'ENV =x', 'SHELL sh']) {
      assert.throws(() => applyChanges({}, [bad]), { kind: 'invalid', code: 'changes.invalid' }, bad);
    }
  });
});
