/** `docs/docker-api.md`, made from the routes themselves so that it cannot promise what is not served. */
import type { DockerContext } from './context.ts';
import { API_VERSION, MIN_API_VERSION, type Route } from './router.ts';
import { allRoutes } from './server.ts';

/** Handlers close over their context and use it when they are called; a list of routes calls none. */
const NO_CONTEXT = {} as DockerContext;

const PREFACE = `# Docker's Engine API in berth

<!-- Made by scripts/docker-api-table.ts from the routes in src/docker. Change those and run it again. -->

berth speaks API ${MIN_API_VERSION.join('.')} to ${API_VERSION.join('.')}, on every path with and without a version prefix (\`/v1.41/containers/json\`).
What is *not yet* there answers 501 with a message that names the endpoint; a field of a request that berth cannot
honour is refused with 501 naming the field, unknown ones are passed over. Swarm's endpoints answer 503, as dockerd's
do on a host that is in no swarm.

`;

/** The whole document. */
export function apiTable(routes: readonly Route[] = allRoutes(NO_CONTEXT)): string {
  const sections = new Map<string, Route[]>();
  for (const route of routes) {
    if (route.isRefusal === true) continue;
    const title = sectionOf(route.path);
    sections.set(title, [...(sections.get(title) ?? []), route]);
  }
  const served = routes.filter((route) => route.handle !== undefined && route.isRefusal !== true).length;
  const missing = routes.filter((route) => route.handle === undefined).length;
  const tables = [...sections].map(([title, members]) => `## ${title}\n\n${tableOf(members)}`);
  return `${PREFACE}${served} endpoints are served, ${missing} are not yet.\n\n${tables.join('\n')}`;
}

function tableOf(routes: readonly Route[]): string {
  const rows = routes.map(({ method, path, summary, handle }) => {
    const support = handle === undefined ? 'not yet' : 'yes';
    return `| ${method} | \`${path.replaceAll('...', '')}\` | ${support} | ${summary} |`;
  });
  return ['| Method | Path | Supported | What it is for |', '|---|---|---|---|', ...rows, ''].join('\n');
}

function sectionOf(path: string): string {
  const [, first = ''] = path.split('/');
  const known: Readonly<Record<string, string>> = {
    berth: "berth's own",
    containers: 'Containers',
    commit: 'Images',
    exec: 'Exec',
    images: 'Images',
    distribution: 'Images',
    build: 'Build',
    session: 'Build',
    grpc: 'Build',
    networks: 'Networks',
    volumes: 'Volumes',
    plugins: 'Plugins',
  };
  return known[first] ?? 'System';
}
