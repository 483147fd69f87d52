/**
 * Endpoints of Docker's API that berth does not serve yet. They answer 501 and name themselves, so that a tool's user
 * learns what is missing; the table in docs/ lists them. Swarm's answer as dockerd's do without a swarm.
 */
import { BerthError } from '#base';
import type { Route } from './router.ts';

const NOT_YET: readonly [Route['method'], string, string][] = [
  ['GET', '/containers/{id}/stats', 'use of resources'],
  ['GET', '/containers/{id}/changes', 'changed files'],
  ['GET', '/containers/{id}/export', 'export the file system'],
  ['GET', '/containers/{id}/archive', 'copy files out'],
  ['HEAD', '/containers/{id}/archive', 'look at a file'],
  ['PUT', '/containers/{id}/archive', 'copy files in'],
  ['POST', '/containers/{id}/update', 'change limits'],
  ['GET', '/containers/{id}/attach/ws', 'attach over a websocket'],
  ['POST', '/containers/prune', 'remove stopped ones'],
  ['GET', '/containers/{id}/checkpoints', 'list checkpoints'],
  ['POST', '/containers/{id}/checkpoints', 'make a checkpoint'],
  ['DELETE', '/containers/{id}/checkpoints/{checkpoint}', 'remove a checkpoint'],
  ['POST', '/commit', 'image from a container'],
  ['POST', '/build', 'build an image'],
  ['POST', '/build/prune', 'remove build cache'],
  ['POST', '/session', 'BuildKit session (set DOCKER_BUILDKIT=0)'],
  ['POST', '/grpc', 'BuildKit (set DOCKER_BUILDKIT=0)'],
  ['POST', '/auth', 'check credentials'],
  ['POST', '/images/{name...}/push', 'push'],
  ['GET', '/distribution/{name...}/json', 'image in a registry'],
  ['GET', '/networks', 'list networks'],
  ['GET', '/networks/{id}', 'inspect a network'],
  ['POST', '/networks/create', 'make a network'],
  ['POST', '/networks/{id}/connect', 'connect to a network'],
  ['POST', '/networks/{id}/disconnect', 'disconnect from a network'],
  ['DELETE', '/networks/{id}', 'remove a network'],
  ['POST', '/networks/prune', 'remove unused networks'],
  ['GET', '/volumes', 'list volumes'],
  ['POST', '/volumes/create', 'make a volume'],
  ['GET', '/volumes/{name}', 'inspect a volume'],
  ['PUT', '/volumes/{name}', 'change a cluster volume'],
  ['DELETE', '/volumes/{name}', 'remove a volume'],
  ['POST', '/volumes/prune', 'remove unused volumes'],
  ['GET', '/plugins', 'list plugins'],
  ['GET', '/plugins/{name...}/json', 'inspect a plugin'],
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

export function swarmRoutes(): Route[] {
  const refuse = (): never => {
    const text =
      'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';
    throw new BerthError('unavailable', 'swarm.none', text);
  };
  const methods = ['GET', 'POST', 'DELETE'] as const;
  return SWARM.flatMap((path) =>
    methods.map((method) => ({ method, path, summary: 'swarm: always 503', handle: refuse })),
  );
}
