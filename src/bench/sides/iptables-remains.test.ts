import assert from 'node:assert/strict';
import { test } from 'node:test';
import { iptablesUndo } from './iptables-remains.ts';

test('what dockerd added is taken back, rules before chains; what others added stays', () => {
  const before = [
    { table: 'filter' as const, lines: ['-P FORWARD ACCEPT', '-A INPUT -i lo -j ACCEPT'] },
    { table: 'nat' as const, lines: ['-P POSTROUTING ACCEPT'] },
  ];
  const after = [
    {
      table: 'filter' as const,
      lines: [
        '-P FORWARD DROP',
        '-N DOCKER',
        '-A INPUT -i lo -j ACCEPT',
        '-A INPUT -s 192.0.2.9/32 -j DROP',
        '-A FORWARD -o docker0 -j DOCKER',
      ],
    },
    {
      table: 'nat' as const,
      lines: ['-P POSTROUTING ACCEPT', '-A POSTROUTING -s 172.29.77.0/24 ! -o docker0 -j MASQUERADE'],
    },
  ];
  assert.deepEqual(
    iptablesUndo(before, after).map((words) => words.join(' ')),
    [
      '-t filter -D FORWARD -o docker0 -j DOCKER',
      '-t nat -D POSTROUTING -s 172.29.77.0/24 ! -o docker0 -j MASQUERADE',
      '-t filter -F DOCKER',
      '-t filter -X DOCKER',
      '-t filter -P FORWARD ACCEPT',
    ],
  );
});

test('a machine on which dockerd changed nothing is left alone', () => {
  const same = [{ table: 'filter' as const, lines: ['-P FORWARD DROP', '-N DOCKER', '-A FORWARD -j DOCKER'] }];
  assert.deepEqual(iptablesUndo(same, same), []);
});

test('a comment is one word, and podman’s chains are taken back as well', () => {
  const rule = '-A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD';
  const after = [{ table: 'filter' as const, lines: ['-N CNI-FORWARD', rule] }];
  const words = ['-t', 'filter', '-D', 'FORWARD', '-m', 'comment', '--comment', 'CNI firewall plugin rules'];
  assert.deepEqual(iptablesUndo([], after)[0], [...words, '-j', 'CNI-FORWARD']);
});
