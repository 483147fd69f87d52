import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSubnet } from './addresses.ts';
import { renderRules } from './firewall.ts';

const subnet = parseSubnet('172.30.0.0/22');

test('the whole table of a bridge is replaced in one go', () => {
  const rules = renderRules('berth0', subnet, []);
  assert.match(rules, /^\ntable ip berth_berth0\ndelete table ip berth_berth0\ntable ip berth_berth0 \{/);
  assert.match(rules, /ip saddr 172\.30\.0\.0\/22 oifname != "berth0" masquerade/);
  assert.ok(!rules.includes('elements'), 'no ports, no elements');
});

test('ports on every address and on one address go to different maps', () => {
  const rules = renderRules('berth0', subnet, [
    { protocol: 'tcp', hostIp: '', hostPort: 8080, guestAddress: '172.30.0.2', guestPort: 80 },
    { protocol: 'udp', hostIp: '0.0.0.0', hostPort: 53, guestAddress: '172.30.0.3', guestPort: 53 },
    { protocol: 'tcp', hostIp: '127.0.0.1', hostPort: 5432, guestAddress: '172.30.0.4', guestPort: 5432 },
  ]);
  assert.match(rules, /elements = \{ tcp \. 8080 : 172\.30\.0\.2 \. 80, udp \. 53 : 172\.30\.0\.3 \. 53 \}/);
  assert.match(rules, /elements = \{ 127\.0\.0\.1 \. tcp \. 5432 : 172\.30\.0\.4 \. 5432 \}/);
});

test('what is not published is dropped when it comes from outside', () => {
  const rules = renderRules('berth7', subnet, []);
  const forward = rules.slice(rules.indexOf('chain forward'));
  const order = ['ct state established,related accept', 'ct status dnat accept', 'iifname != "berth7" drop'].map(
    (rule) => forward.indexOf(rule),
  );
  assert.ok(order.every((at) => at >= 0));
  assert.deepEqual(
    order,
    [...order].sort((a, b) => a - b),
  );
});
