/** Docker's Engine API on a socket: routes, headers, errors. */
import { BerthError, messageOf } from '#base';
import { type IncomingMessage, type Server, type ServerResponse, type Socket, serveHttp } from '#platform';
import { Call } from './call.ts';
import { checkpointRoutes } from './checkpoints.ts';
import { streamRoutes } from './container-streams.ts';
import { containerRoutes } from './containers.ts';
import type { DockerContext } from './context.ts';
import { extensionRoutes } from './extensions.ts';
import { imageRoutes } from './images.ts';
import { emptyRoutes, notYetRoutes, swarmRoutes } from './not-yet.ts';
import { API_VERSION, compileRoutes, type Match, type Route, splitTarget } from './router.ts';
import { sleepRoutes } from './sleep.ts';
import { statsRoutes } from './stats.ts';
import { standardHeaders, systemRoutes } from './system.ts';
import { volumeRoutes } from './volumes.ts';

/** Every route, in the order they are tried. The table in docs/ is made from this list. */
export function allRoutes(context: DockerContext): Route[] {
  return [
    ...systemRoutes(context),
    ...containerRoutes(context),
    ...streamRoutes(context),
    ...statsRoutes(context),
    ...imageRoutes(context),
    ...volumeRoutes(context),
    ...sleepRoutes(context),
    ...checkpointRoutes(context),
    ...extensionRoutes(context),
    ...emptyRoutes(),
    ...notYetRoutes(),
    ...swarmRoutes(),
  ];
}

/** @param front - sees every plain request first, and says whether it has taken it. */
export function serveDocker(
  context: DockerContext,
  listener: { path: string; mode: number; gid?: number | undefined },
  front: (request: IncomingMessage, response: ServerResponse) => boolean = () => false,
): Promise<Server> {
  const match = compileRoutes(allRoutes(context));
  const headers = Object.entries(standardHeaders(context.facts.version));

  const answer = (
    request: IncomingMessage,
    response: ServerResponse | undefined,
    upgrade: { socket: Socket; head: Buffer } | undefined,
  ): void => {
    const { path, query } = splitTarget(request.url ?? '/');
    const call = (found: Pick<Match, 'parameters' | 'version'>): Call =>
      new Call({ request, response, upgrade, query, parameters: found.parameters, version: found.version, headers });
    try {
      const found = match(request.method ?? 'GET', path);
      void handle(found.route, call(found));
    } catch (error) {
      call({ parameters: {}, version: API_VERSION }).fail(error);
    }
  };

  const handle = async (route: Route, call: Call): Promise<void> => {
    try {
      if (route.handle === undefined) {
        const text = `berth does not support ${route.method} ${route.path} yet (${route.summary})`;
        throw new BerthError('unsupported', 'route.not_yet', text);
      }
      await route.handle(call);
    } catch (error) {
      if (!(error instanceof BerthError) || error.kind === 'bug') {
        context.log(
          `${call.request.method} ${call.request.url}: ${error instanceof Error ? (error.stack ?? error.message) : messageOf(error)}`,
        );
      }
      call.fail(error);
    }
  };

  return serveHttp(listener, {
    onRequest: (request, response) => {
      if (!front(request, response)) answer(request, response, undefined);
    },
    onUpgrade: (request, socket, head) => answer(request, undefined, { socket, head }),
  });
}
