import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Histogram, renderMetrics } from './prometheus.ts';

test('metrics are rendered with their help and type, texts escaped', () => {
  const text = renderMetrics([
    { name: 'a_total', help: 'Line\nof \\ text.', type: 'counter', samples: [{ value: 3 }] },
    { name: 'b', help: 'B.', type: 'gauge', samples: [{ labels: { x: 'say "\\"\n', y: '1' }, value: 0.5 }] },
    { name: 'none', help: 'Nothing yet.', type: 'gauge', samples: [] },
  ]);
  assert.equal(
    text,
    '# HELP a_total Line\\nof \\\\ text.\n# TYPE a_total counter\na_total 3\n' +
      '# HELP b B.\n# TYPE b gauge\nb{x="say \\"\\\\\\"\\n",y="1"} 0.5\n' +
      '# HELP none Nothing yet.\n# TYPE none gauge\n',
  );
});

test('a histogram counts upwards, per set of labels', () => {
  const histogram = new Histogram([0.1, 1]);
  for (const value of [0.05, 0.1, 0.5, 7]) histogram.observe({ way: 'clone' }, value);
  histogram.observe({ way: 'boot' }, 2);
  const text = renderMetrics([{ name: 't_seconds', help: 'T.', type: 'histogram', samples: histogram.samples() }]);
  assert.deepEqual(text.split('\n').slice(2, 7), [
    't_seconds_bucket{way="clone",le="0.1"} 2',
    't_seconds_bucket{way="clone",le="1"} 3',
    't_seconds_bucket{way="clone",le="+Inf"} 4',
    't_seconds_sum{way="clone"} 7.65',
    't_seconds_count{way="clone"} 4',
  ]);
  assert.match(text, /t_seconds_count\{way="boot"\} 1/);
});
