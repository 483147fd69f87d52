/** Docker's Engine API on a socket: routes, headers, errors. */
import { BerthError, messageOf } from '#base';
import {
  type IncomingMessage,
  plainResponse,
  type Server,
  type ServerResponse,
  type Socket,
  serveHttp,
} from '#platform';
import { Call } from './call.ts';
import { streamRoutes } from './container-streams.ts';
import { containerRoutes } from './containers.ts';
import type { DockerContext } from './context.ts';
import { imageRoutes } from './images.ts';
import { notYetRoutes, swarmRoutes } from './not-yet.ts';
import { problemOf } from './problems.ts';
import { compileRoutes, type Route } from './router.ts';
import { standardHeaders, systemRoutes } from './system.ts';

/** Every route, in the order they are tried. The table in docs/ is made from this list. */
export function allRoutes(context: DockerContext): Route[] {
  return [
    ...systemRoutes(context),
    ...containerRoutes(context),
    ...streamRoutes(context),
    ...imageRoutes(context),
    ...notYetRoutes(),
    ...swarmRoutes(),
  ];
}

export function serveDocker(
  context: DockerContext,
  listener: { path: string; mode: number; gid?: number | undefined },
): Promise<Server> {
  const match = compileRoutes(allRoutes(context));
  const headers = Object.entries(standardHeaders(context.facts.version));

  const answer = (
    request: IncomingMessage,
    response: ServerResponse | undefined,
    upgrade: { socket: Socket; head: Buffer } | undefined,
  ): void => {
    const url = new URL(request.url ?? '/', 'http://berth');
    for (const [name, value] of headers) response?.setHeader(name, value);
    let call: Call;
    try {
      const { route, parameters, version } = match(request.method ?? 'GET', url.pathname);
      call = new Call({ request, response, upgrade, query: url.searchParams, parameters, version });
      void handle(route, call);
    } catch (error) {
      const { status, message } = problemOf(error);
      const plain = response ?? plainResponse(request, upgrade?.socket as Socket);
      plain.writeHead(status, { 'Content-Type': 'application/json' }).end(`${JSON.stringify({ message })}\n`);
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
    onRequest: (request, response) => answer(request, response, undefined),
    onUpgrade: (request, socket, head) => answer(request, undefined, { socket, head }),
  });
}
