/** Verbs that look at VMs: logs, top, port, inspect. */
import { BerthError } from '#base';
import { copyOutput } from '../attached.ts';
import { usageError } from '../command-line.ts';
import { type EngineClient, pathName } from '../engine-client.ts';
import { FAILED } from '../exit-codes.ts';
import { noteError } from '../problems.ts';
import { renderTable } from '../tables.ts';
import { compileTemplate } from '../template.ts';
import type { Verb } from '../verb.ts';

export const logs: Verb = {
  shape: {
    usage: '[OPTIONS] VM',
    about: 'Shows what the main process of a VM wrote.',
    flags: [
      { flags: '-f, --follow', about: 'and go on showing' },
      { flags: '--since <TIME>', about: 'from then on: 2026-11-21T10:00:00Z, or 10m ago' },
      { flags: '--until <TIME>', about: 'up to then' },
      { flags: '-n, --tail <LINES>', about: 'the last lines only' },
      { flags: '-t, --timestamps', about: 'with the time of each line' },
      { flags: '--details', about: 'accepted' },
    ],
    least: 1,
    most: 1,
    examples: ['berth logs -f --tail 100 web', 'berth logs --since 10m web'],
  },
  run: async ({ engine }, options, [name = '']) => {
    const path = `/containers/${encodeURIComponent(name)}`;
    const { Config } = await engine.call<{ Config: { Tty: boolean } }>('GET', `${path}/json`);
    const { body } = await engine.stream('GET', `${path}/logs`, {
      query: {
        stdout: true,
        stderr: true,
        follow: options.flag('follow'),
        timestamps: options.flag('timestamps'),
        since: options.text('since'),
        until: options.text('until'),
        tail: options.text('tail'),
      },
    });
    await copyOutput(body, Config.Tty);
    return 0;
  },
};

export const top: Verb = {
  shape: {
    usage: 'VM [PS OPTIONS]',
    about: 'Lists the processes in a VM.',
    flags: [],
    optionsFirst: true,
    least: 1,
    examples: ['berth top web', 'berth top web aux'],
  },
  run: async ({ engine, out }, _options, [name = '', ...args]) => {
    const found = await engine.call<{ Titles: string[]; Processes: string[][] | null }>(
      'GET',
      `/containers/${encodeURIComponent(name)}/top`,
      { query: { ps_args: args.join(' ') } },
    );
    await out(renderTable([found.Titles, ...(found.Processes ?? [])]));
    return 0;
  },
};

export const port: Verb = {
  shape: {
    usage: 'VM [PORT[/PROTOCOL]]',
    about: 'Shows where the ports of a VM are published.',
    flags: [{ flags: '--json', about: 'as JSON' }],
    least: 1,
    most: 2,
  },
  run: async ({ engine, out }, options, [name = '', wanted]) => {
    type Bound = { HostIp: string; HostPort: string }[] | null;
    const { NetworkSettings } = await engine.call<{ NetworkSettings: { Ports: Record<string, Bound> } }>(
      'GET',
      `/containers/${encodeURIComponent(name)}/json`,
    );
    if (options.flag('json')) {
      await out(`${JSON.stringify(NetworkSettings.Ports)}\n`);
      return 0;
    }
    if (wanted !== undefined) {
      const key = wanted.includes('/') ? wanted : `${wanted}/tcp`;
      const bound = NetworkSettings.Ports[key] ?? [];
      if (bound.length === 0)
        throw new BerthError('not_found', 'port.none', `no public port '${wanted}' published for ${name}`);
      await out(bound.map(({ HostIp, HostPort }) => `${HostIp}:${HostPort}\n`).join(''));
      return 0;
    }
    for (const [key, bound] of Object.entries(NetworkSettings.Ports))
      for (const { HostIp, HostPort } of bound ?? []) await out(`${key} -> ${HostIp}:${HostPort}\n`);
    return 0;
  },
};

export const inspect: Verb = {
  shape: {
    usage: '[OPTIONS] NAME [NAME...]',
    about: 'Shows everything about VMs or images as JSON.',
    flags: [
      { flags: '-f, --format <TEMPLATE>', about: 'json, or a Go template: "{{.State.Status}}"' },
      { flags: '--type <container|image>', about: 'only this kind' },
      { flags: '-s, --size', about: 'with the size of disks' },
      { flags: '--json', about: 'on one line' },
    ],
    least: 1,
    examples: [
      'berth inspect web',
      'berth inspect -f "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}" web',
      'berth inspect --type image berth/busybox',
    ],
  },
  run: async ({ engine, out, note }, options, names) => {
    const type = options.text('type');
    if (type !== undefined && !['container', 'image', 'vm'].includes(type))
      throw usageError(`"${type}" is not a valid value for --type: container and image are`);
    const format = options.flag('json') ? 'json' : options.text('format');
    const render = format === undefined || format === 'json' || format === '' ? undefined : compileTemplate(format);
    const found: unknown[] = [];
    let exitCode = 0;
    for (const name of names) {
      try {
        found.push(await look(engine, name, type, options.flag('size')));
      } catch (error) {
        noteError(note, error);
        exitCode = FAILED;
      }
    }
    if (render !== undefined) for (const value of found) await out(`${render(value)}\n`);
    else await out(`${format === 'json' ? JSON.stringify(found) : JSON.stringify(found, undefined, 4)}\n`);
    return exitCode;
  },
};

async function look(engine: EngineClient, name: string, type: string | undefined, size: boolean): Promise<unknown> {
  if (type !== 'image') {
    try {
      return await engine.call('GET', `/containers/${encodeURIComponent(name)}/json`, { query: { size } });
    } catch (error) {
      if (!(error instanceof BerthError) || error.kind !== 'not_found' || type !== undefined) throw error;
    }
  }
  try {
    return await engine.call('GET', `/images/${pathName(name)}/json`);
  } catch (error) {
    if (!(error instanceof BerthError) || error.kind !== 'not_found' || type !== undefined) throw error;
    throw new BerthError('not_found', 'inspect.none', `no such object: ${name}`, {
      hint: '"berth ps -a" and "berth images" list what there is',
    });
  }
}
