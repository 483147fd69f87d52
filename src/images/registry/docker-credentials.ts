/** What `docker login` stored. Source: docker/cli docs "docker login", cli/config/configfile. */
import { join } from 'node:path';
import * as v from 'valibot';
import { BerthError } from '#base';
import { files, runProcess } from '#platform';
import { parseJson } from './manifest.ts';
import type { RegistryCredentials } from './registry-auth.ts';

/** The name under which Docker files Docker Hub's credentials. */
const HUB_KEY = 'https://index.docker.io/v1/';
/** What a helper says when it has nothing for a server: an answer, not a failure. */
const NOT_FOUND = /credentials not found/i;
const HELPER_DEADLINE_MS = 30_000;

const ConfigSchema = v.object({
  auths: v.nullish(
    v.record(
      v.string(),
      v.object({
        auth: v.nullish(v.string()),
        username: v.nullish(v.string()),
        password: v.nullish(v.string()),
        identitytoken: v.nullish(v.string()),
        registrytoken: v.nullish(v.string()),
      }),
    ),
  ),
  credsStore: v.nullish(v.string()),
  credHelpers: v.nullish(v.record(v.string(), v.string())),
});
const HelperSchema = v.object({ Username: v.string(), Secret: v.string() });

/**
 * The credentials for a registry's domain (`docker.io`, `localhost:5000`), or undefined when there are none.
 *
 * @param configFolder - Docker's own: `$DOCKER_CONFIG` or `~/.docker`.
 * @throws manifest.invalid (invalid) for a damaged file; credentials.helper_failed (unavailable).
 */
export async function readDockerCredentials(
  domain: string,
  configFolder: string,
): Promise<RegistryCredentials | undefined> {
  const path = join(configFolder, 'config.json');
  const text = await files.readTextIfExists(path);
  if (text === undefined) return undefined;
  const config = parseJson(ConfigSchema, Buffer.from(text), `Docker's configuration ${path}`);
  const key = domain === 'docker.io' ? HUB_KEY : domain;
  const helper = config.credHelpers?.[key] ?? config.credHelpers?.[domain] ?? config.credsStore;
  if (helper) return askHelper(helper, key);
  const auths = Object.entries(config.auths ?? {});
  const entry = auths.find(([name]) => name === key)?.[1] ?? auths.find(([name]) => hostOf(name) === hostOf(key))?.[1];
  if (entry === undefined) return undefined;
  const decoded = Buffer.from(entry.auth ?? '', 'base64')
    .toString('utf8')
    .replace(/\0+$/, '');
  const colon = decoded.indexOf(':');
  const username = entry.username || (colon > 0 ? decoded.slice(0, colon) : undefined);
  const password = entry.password || (colon > 0 ? decoded.slice(colon + 1) : undefined);
  return credentialsOf({ username, password, identityToken: entry.identitytoken, registryToken: entry.registrytoken });
}

async function askHelper(helper: string, server: string): Promise<RegistryCredentials | undefined> {
  // The name becomes a program's: it must not become a path.
  if (!/^[A-Za-z0-9._-]+$/.test(helper)) {
    throw new BerthError(
      'invalid',
      'credentials.bad_helper',
      `${JSON.stringify(helper)} is not the name of a credential helper`,
    );
  }
  const result = await runProcess([`docker-credential-${helper}`, 'get'], {
    input: `${server}\n`,
    deadlineMs: HELPER_DEADLINE_MS,
  });
  if (result.exitCode !== 0) {
    if (NOT_FOUND.test(result.stdout + result.stderr)) return undefined;
    const words = (result.stderr || result.stdout).trim().slice(0, 200);
    throw new BerthError('unavailable', 'credentials.helper_failed', `docker-credential-${helper} failed: ${words}`);
  }
  const { Username, Secret } = parseJson(
    HelperSchema,
    Buffer.from(result.stdout),
    `the answer of docker-credential-${helper}`,
  );
  // Docker's convention: this user name says that the secret is an identity token.
  return Username === '<token>' ? { identityToken: Secret } : { username: Username, password: Secret };
}

function hostOf(name: string): string {
  return name.replace(/^https?:\/\//, '').split('/', 1)[0] ?? '';
}

function credentialsOf(
  fields: Record<keyof RegistryCredentials, string | null | undefined>,
): RegistryCredentials | undefined {
  const present = Object.entries(fields).filter(([, value]) => value);
  return present.length === 0 ? undefined : (Object.fromEntries(present) as RegistryCredentials);
}
