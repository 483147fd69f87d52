import assert from 'node:assert/strict';
import { test } from 'node:test';
import { axisFor } from './axis.ts';
import type { Measure } from './report.ts';
import { renderSvg } from './svg-plot.ts';

const measure: Measure = {
  id: 'run',
  title: 'run <"1 & 2">',
  unit: 'ms',
  series: [
    { side: 'berth', values: [100, 110, 120], check: '' },
    { side: 'dockerd + runc', values: [300, 310], check: '' },
    { side: 'podman', values: [], check: '' },
  ],
};
const draw = (): string => renderSvg({ title: 'berth bench start', subtitle: 'here', measures: [measure] });

test('every value has its dot, every side that was measured its median, every side its name', () => {
  const svg = draw();
  assert.equal(svg.match(/<circle /g)?.length, 5);
  assert.equal(svg.match(/stroke-width="2"/g)?.length, 2);
  for (const words of ['>berth<', '>dockerd + runc<', '>podman<', '>110 ms<', '>305 ms<', '>ms; each dot'])
    assert.ok(svg.includes(words), words);
  assert.equal(svg, draw());
});

test('text is escaped and all elements are closed', () => {
  const svg = draw();
  assert.ok(svg.includes('run &lt;&quot;1 &amp; 2&quot;&gt;'));
  const open: string[] = [];
  for (const [, slash, name = '', own] of svg.matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/g)) {
    if (slash === '/') assert.equal(open.pop(), name);
    else if (own !== '/') open.push(name);
  }
  assert.deepEqual(open, []);
});

test('dots lie between the ends of the axis', () => {
  const xs = [...draw().matchAll(/cx="([0-9.]+)"/g)].map(([, x]) => Number(x));
  assert.ok(xs.every((x) => x >= 170 && x <= 780));
});

test('a linear axis starts at zero and ends at a round number', () => {
  const axis = axisFor([130, 310]);
  assert.deepEqual(axis.ticks, [0, 100, 200, 300, 400]);
  assert.deepEqual([axis.positionOf(0), axis.positionOf(400)], [0, 1]);
  assert.deepEqual(axisFor([0, 0]).positionOf(0), 0);
});

test('values of different sizes get a logarithmic axis', () => {
  const axis = axisFor([30, 2000]);
  assert.equal(axis.isLogarithmic, true);
  assert.deepEqual(axis.ticks, [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000]);
  assert.deepEqual([axis.positionOf(10), axis.positionOf(10_000)], [0, 1]);
});
