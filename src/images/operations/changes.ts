/** Dockerfile instructions as `import --change` and `commit --change` take them, applied to a run configuration. */
import { BerthError } from '#base';
import type { RunConfig } from '../registry/manifest.ts';

type Draft = { -readonly [Key in keyof RunConfig]: RunConfig[Key] };

const SHELL = ['/bin/sh', '-c'];

/** @throws changes.invalid (invalid), naming the instruction. */
export function applyChanges(base: RunConfig, changes: readonly string[]): RunConfig {
  const draft: Draft = { ...base };
  for (const change of changes) {
    const match = /^\s*([A-Za-z]+)\s+([\s\S]*\S)\s*$/.exec(change);
    if (match === null) throw invalid(change);
    applyOne(draft, (match[1] ?? '').toUpperCase(), match[2] ?? '', change);
  }
  return draft;
}

function applyOne(draft: Draft, instruction: string, rest: string, whole: string): void {
  switch (instruction) {
    case 'CMD':
      draft.Cmd = command(rest);
      return;
    case 'ENTRYPOINT':
      draft.Entrypoint = command(rest);
      return;
    case 'ENV': {
      const environment = new Map((draft.Env ?? []).map((line) => [line.split('=', 1)[0] ?? '', line]));
      for (const [name, value] of pairs(rest, whole)) environment.set(name, `${name}=${value}`);
      draft.Env = [...environment.values()];
      return;
    }
    case 'LABEL':
      draft.Labels = { ...draft.Labels, ...Object.fromEntries(pairs(rest, whole)) };
      return;
    case 'EXPOSE': {
      const ports = words(rest).map((port) => (port.includes('/') ? port : `${port}/tcp`));
      if (ports.some((port) => !/^[0-9]{1,5}(-[0-9]{1,5})?\/(tcp|udp|sctp)$/.test(port))) throw invalid(whole);
      draft.ExposedPorts = { ...draft.ExposedPorts, ...Object.fromEntries(ports.map((port) => [port, {}])) };
      return;
    }
    case 'VOLUME':
      draft.Volumes = {
        ...draft.Volumes,
        ...Object.fromEntries((jsonTexts(rest) ?? words(rest)).map((path) => [path, {}])),
      };
      return;
    case 'USER':
      draft.User = rest;
      return;
    case 'WORKDIR':
      draft.WorkingDir = rest.startsWith('/') ? rest : `${(draft.WorkingDir ?? '').replace(/\/$/, '')}/${rest}`;
      return;
    case 'STOPSIGNAL':
      draft.StopSignal = rest;
      return;
    case 'ONBUILD':
      draft.OnBuild = [...(draft.OnBuild ?? []), rest];
      return;
    case 'SHELL': {
      const shell = jsonTexts(rest);
      if (shell === undefined) throw invalid(whole);
      draft.Shell = shell;
      return;
    }
    case 'HEALTHCHECK': {
      if (rest.toUpperCase() === 'NONE') draft.Healthcheck = { Test: ['NONE'] };
      else if (/^CMD\s/i.test(rest)) {
        const parts = jsonTexts(rest.slice(3).trim());
        draft.Healthcheck = { Test: parts === undefined ? ['CMD-SHELL', rest.slice(3).trim()] : ['CMD', ...parts] };
      } else throw invalid(whole);
      return;
    }
    default:
      throw new BerthError('invalid', 'changes.invalid', `${instruction} is not a valid change command`);
  }
}

function command(rest: string): string[] {
  return jsonTexts(rest) ?? [...SHELL, rest];
}

function jsonTexts(rest: string): string[] | undefined {
  if (!rest.startsWith('[')) return undefined;
  try {
    const value: unknown = JSON.parse(rest);
    return Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Words of a line; quotes and backslashes as in a Dockerfile. */
function words(rest: string): string[] {
  const found = rest.match(/(?:[^\s"'\\]|\\[\s\S]|"(?:[^"\\]|\\[\s\S])*"|'[^']*')+/g) ?? [];
  return found.map(unquote);
}

function unquote(word: string): string {
  return word.replace(
    /"((?:[^"\\]|\\[\s\S])*)"|'([^']*)'|\\([\s\S])/g,
    (_, double?: string, single?: string, escaped?: string) =>
      double !== undefined ? double.replace(/\\(["\\$])/g, '$1') : (single ?? escaped ?? ''),
  );
}

function pairs(rest: string, whole: string): [string, string][] {
  const list = words(rest);
  const first = /^([^\s=]+)\s+([\s\S]+)$/.exec(rest);
  // The old form, `ENV name the rest of the line`.
  if (first !== null && list[0]?.includes('=') === false) return [[first[1] ?? '', first[2] ?? '']];
  return list.map((word) => {
    const equals = word.indexOf('=');
    if (equals < 1) throw invalid(whole);
    return [word.slice(0, equals), word.slice(equals + 1)];
  });
}

function invalid(change: string): BerthError {
  return new BerthError(
    'invalid',
    'changes.invalid',
    `the change ${JSON.stringify(change.slice(0, 200))} is not a Dockerfile instruction`,
  );
}
