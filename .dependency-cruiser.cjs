// The house's import order, bottom to top. A folder may import from the rooms below it, by their door only.
const middle = ['engine', 'images', 'storage', 'network', 'metering', 'trust'];
const levels = [['base'], ['platform'], ['store'], middle, ['setup', 'fleet'], ['docker', 'api'], ['daemon', 'bench'], ['cli']];

const upward = levels.flatMap((level, index) =>
  level.map((area) => ({
    name: `${area}-imports-downward`,
    comment: `src/${area} may import only the areas below it. Declare a small port in ${area} and let daemon/ connect the two.`,
    severity: 'error',
    from: { path: `^src/${area}/` },
    to: {
      path: `^src/(${levels
        .slice(index)
        .flat()
        .filter((other) => other !== area)
        .join('|')})/`,
    },
  })),
);

module.exports = {
  forbidden: [
    ...upward.filter((rule) => !/\(\)/.test(rule.to.path)),
    {
      name: 'one-door',
      comment: 'Import an area through its door (#area), not a file inside it; export what is missing from its index.ts.',
      severity: 'error',
      from: { path: '^src/([^/]+)/' },
      to: { path: '^src/([^/]+)/(?!index\\.ts$)', pathNot: '^src/$1/' },
    },
    {
      name: 'platform-owns-the-machine',
      comment: 'Only src/platform spawns, opens, listens or reads files; use what #platform exports, or add it there.',
      severity: 'error',
      from: { path: '^src/(?!platform/)', pathNot: '\\.test\\.ts$' },
      to: { path: '^(node:)?(fs|fs/promises|child_process|net|http|https|dgram|tls|os|timers|timers/promises)$' },
    },
    { name: 'no-circular', comment: 'Break the circle: which concept is missing?', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'product-does-not-import-tests',
      comment: 'Test code stays in tests/.',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^tests/' },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'types'] },
  },
};
