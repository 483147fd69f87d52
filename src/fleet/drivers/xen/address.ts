/**
 * From a URL to the shell in which xl is run. Pure. libvirt's `xen:///system` and `xen+ssh://` are other drivers' URLs.
 *
 *     xl:///                                                this host's dom0
 *     xl+ssh://user@host[:port]/[?keyfile=PATH][&known_hosts=PATH]
 */
import { BerthError } from '#base';
import { SSH_PARAMETERS, sshArguments, sshProblems } from '../../ssh.ts';

export const SCHEMES = ['xl', 'xl+ssh'] as const;

/** What is wrong with it, one sentence each. */
export function problemsOf(url: URL): string[] {
  const isRemote = url.protocol === 'xl+ssh:';
  const problems = isRemote ? sshProblems(url) : [];
  if (!isRemote && url.host !== '') problems.push('a host needs ssh: xl+ssh://user@host/');
  if (url.pathname !== '' && url.pathname !== '/') problems.push(`the path ${url.pathname} means nothing to xl`);
  const known = isRemote ? SSH_PARAMETERS : [];
  for (const name of url.searchParams.keys())
    if (!known.includes(name))
      problems.push(`the parameter ${name} is not known${isRemote ? `; ${known.join(' and ')} are` : ''}`);
  return problems;
}

/** @returns the program that reads lines of `sh` on its standard input. @throws source.url (invalid) with all problems. */
export function shellArguments(url: URL): readonly [string, ...string[]] {
  const problems = problemsOf(url);
  if (problems.length > 0) throw new BerthError('invalid', 'source.url', `${url.href}: ${problems.join('; ')}`);
  return url.protocol === 'xl+ssh:' ? sshArguments(url, ['sh']) : ['sh'];
}
