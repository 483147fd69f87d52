/**
 * Endpoints of Docker's API that berth does not serve yet. They answer 501 and name themselves, so that a tool's user
 * learns what is missing; the table in docs/ lists them. Swarm's answer as dockerd's do without a swarm.
 */
import { BerthError } from '#base';
import type { Call } from './call.ts';
import type { Route } from './router.ts';

const NOT_YET: readonly [Route['method'], string, string][] = [
  ['GET', '/containers/{id}/changes', 'changed files'],
  ['GET', '/containers/{id}/export', 'export the file system'],
  ['GET', '/containers/{id}/archive', 'copy files out'],
  ['HEAD', '/containers/{id}/archive', 'look at a file'],
  ['PUT', '/containers/{id}/archive', 'copy files in'],
  ['POST', '/containers/{id}/update', 'change limits'],
  ['GET', '/containers/{id}/attach/ws', 'attach over a websocket'],
  ['POST', '/commit', 'image from a container'],
  ['POST', '/build', 'build an image'],
  ['POST', '/session', 'BuildKit session (set DOCKER_BUILDKIT=0)'],
  ['POST', '/grpc', 'BuildKit (set DOCKER_BUILDKIT=0)'],
  ['POST', '/auth', 'check credentials'],
  ['POST', '/images/{name...}/push', 'push'],
  ['GET', '/distribution/{name...}/json', 'image in a registry'],
  ['GET', '/networks', 'list networks'],
  ['POST', '/networks/create', 'make a network'],
  ['POST', '/networks/{id}/connect', 'connect to a network'],
  ['POST', '/networks/{id}/disconnect', 'disconnect from a network'],
  ['DELETE', '/networks/{id}', 'remove a network'],
  ['PUT', '/volumes/{name}', 'change a cluster volume'],
];

const SWARM = [
  '/swarm',
  '/swarm/{rest...}',
  '/nodes',
  '/nodes/{rest...}',
  '/services',
  '/services/{rest...}',
  '/tasks',
  '/tasks/{rest...}',
  '/secrets',
  '/secrets/{rest...}',
  '/configs',
  '/configs/{rest...}',
];

export function notYetRoutes(): Route[] {
  return NOT_YET.map(([method, path, summary]) => ({ method, path, summary }));
}

/**
 * What there can be none of yet. Looking it up answers 404, not 501: `docker inspect NAME` asks one kind of thing after
 * the other until one knows the name, and `docker system prune` lists all.
 */
export function emptyRoutes(): Route[] {
  const none = (code: string, text: (name: string) => string) => (call: Call) => {
    throw new BerthError('not_found', code, text(call.parameter('name')));
  };
  const network = (call: Call): never => {
    const name = call.parameter('name');
    if (name !== 'bridge' && name !== 'none')
      throw new BerthError('not_found', 'network.not_found', `network ${name} not found`);
    throw new BerthError('unsupported', 'route.not_yet', 'berth does not support GET /networks/{name} yet');
  };
  return [
    {
      method: 'GET',
      path: '/networks/{name}',
      summary: 'inspect a network (only says which do not exist)',
      handle: network,
    },
    { method: 'GET', path: '/plugins', summary: 'list plugins (none)', handle: (call) => call.reply(200, []) },
    {
      method: 'POST',
      path: '/networks/prune',
      summary: 'remove unused networks (none yet)',
      handle: (call) => call.reply(200, { NetworksDeleted: [] }),
    },
    {
      method: 'POST',
      path: '/build/prune',
      summary: 'remove build cache (none yet)',
      handle: (call) => call.reply(200, { CachesDeleted: [], SpaceReclaimed: 0 }),
    },
    {
      method: 'GET',
      path: '/plugins/{name...}/json',
      summary: 'inspect a plugin (none)',
      handle: none('plugin.not_found', (name) => `plugin "${name}" not found`),
    },
  ];
}

export function swarmRoutes(): Route[] {
  const refuse = (): never => {
    const text =
      'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';
    throw new BerthError('unavailable', 'swarm.none', text);
  };
  const methods = ['GET', 'POST', 'DELETE'] as const;
  return SWARM.flatMap((path) =>
    methods.map((method) => ({ method, path, summary: 'swarm: always 503', handle: refuse, isRefusal: true })),
  );
}
