import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judge } from './promises.ts';
import type { Measure } from './report.ts';

const runs = (berth: readonly number[], dockerd: readonly number[]): Measure => ({
  id: 'run',
  title: 'docker run --rm',
  unit: 'ms',
  series: [
    { side: 'berth', values: berth, check: 'its own kernel' },
    { side: 'dockerd + runc', values: dockerd, check: "the host's kernel" },
  ],
});

test('a ratio of medians holds up to its limit, with an interval; of p99 to its own', () => {
  const [medians, tails] = judge('start', [runs([100, 100, 150], [100, 100, 100])], []);
  assert.deepEqual([medians?.value, medians?.outcome], [1, 'holds']);
  assert.ok((medians?.interval?.low ?? 0) >= 1 && (medians?.interval?.high ?? 0) <= 1.5);
  assert.deepEqual([tails?.value, tails?.outcome, tails?.interval], [1.5, 'holds', undefined]);
  const [slow] = judge('start', [runs([101], [100])], []);
  assert.equal(slow?.outcome, 'does not hold');
});

test('a missing side is named with the package that brings it', () => {
  const missing = [{ side: 'dockerd + runc', why: '/usr/sbin/dockerd is not there', package: 'docker.io' }];
  const [verdict] = judge('burst', [], missing.concat());
  assert.equal(verdict?.outcome, 'not measured');
  assert.match(verdict?.why ?? '', /not among the sides/);
  const berthOnly: Measure = {
    id: 'burst',
    title: 'burst',
    unit: 's',
    series: [{ side: 'berth', values: [3], check: 'answered' }],
  };
  assert.match(judge('burst', [berthOnly], missing)[0]?.why ?? '', /install the package docker\.io/);
});

test('a number of VMs is a floor, not a ceiling', () => {
  const live = (count: number): Measure => ({
    id: 'live',
    title: 'live VMs',
    unit: 'VMs',
    series: [{ side: 'berth', values: [count], check: 'each answered' }],
  });
  const outcome = (count: number) => judge('density', [live(count)], []).find((one) => one.unit === 'VMs')?.outcome;
  assert.deepEqual([outcome(299), outcome(300)], ['does not hold', 'holds']);
});
