import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  chooseSubnet,
  formatIpv4,
  formatSubnet,
  gatewayOf,
  lowestFree,
  macOf,
  overlaps,
  parseIpv4,
  parseSubnet,
} from './addresses.ts';

test('addresses read and print the same', () => {
  for (const text of ['0.0.0.0', '10.1.2.3', '172.30.255.254', '255.255.255.255'])
    assert.equal(formatIpv4(parseIpv4(text)), text);
  for (const text of ['', '1.2.3', '1.2.3.4.5', '256.1.1.1', '01.2.3.4', 'a.b.c.d', '1.2.3.-4']) {
    assert.throws(() => parseIpv4(text), /not an IPv4 address/, text);
  }
});

test('subnets are cut to their base, and overlap in both directions', () => {
  assert.equal(formatSubnet(parseSubnet('172.30.1.77/22')), '172.30.0.0/22');
  assert.throws(() => parseSubnet('1.2.3.4/33'), /not an IPv4 subnet/);
  const [wide, narrow, other] = ['10.0.0.0/8', '10.213.4.0/24', '11.0.0.0/8'].map(parseSubnet);
  assert.ok(wide && narrow && other);
  assert.ok(overlaps(wide, narrow) && overlaps(narrow, wide));
  assert.ok(!overlaps(wide, other));
});

test('a subnet is chosen that touches no route, and another one for each bridge', () => {
  const first = chooseSubnet([], 0);
  assert.ok(first);
  const second = chooseSubnet([first], 0);
  assert.ok(second && !overlaps(first, second));
  const neighbour = chooseSubnet([], 1);
  assert.ok(neighbour && !overlaps(first, neighbour), 'two daemons that start together');
  assert.equal(chooseSubnet([parseSubnet('0.0.0.0/0')], 3), undefined);
});

test('the lowest free address is given, never the gateway or the broadcast', () => {
  const subnet = parseSubnet('192.0.2.0/30');
  const gateway = gatewayOf(subnet);
  assert.equal(formatIpv4(gateway), '192.0.2.1');
  const only = lowestFree(subnet, new Set());
  assert.equal(formatIpv4(only), '192.0.2.2');
  assert.throws(() => lowestFree(subnet, new Set([only])), /no free address is left in 192\.0\.2\.0\/30/);
});

test('the hardware address holds the address', () => {
  assert.equal(macOf(parseIpv4('172.30.0.2')), '02:42:ac:1e:00:02');
});
