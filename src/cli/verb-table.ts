/** Every command, by name: what the overview says of it, and how it is loaded. Nothing is loaded before it is needed. */
import type { VerbEntry } from './verb.ts';

const lifecycle = () => import('./verbs/lifecycle.ts');
const looking = () => import('./verbs/looking.ts');
const images = () => import('./verbs/images.ts');
const system = () => import('./verbs/system.ts');
const vm = 'Virtual machines';
const image = 'Images';
const estate = 'The fleet';
const engine = 'The engine';

export const VERBS: readonly VerbEntry[] = [
  {
    name: 'run',
    group: vm,
    summary: 'make a VM from an image and run a command in it',
    load: async () => (await import('./verbs/run.ts')).run,
  },
  {
    name: 'exec',
    group: vm,
    summary: 'run another command in a running VM',
    load: async () => (await import('./verbs/exec.ts')).exec,
  },
  { name: 'ps', group: vm, summary: 'list VMs', load: async () => (await import('./verbs/ps.ts')).ps },
  {
    name: 'create',
    group: vm,
    summary: 'make a VM without starting it',
    load: async () => (await import('./verbs/run.ts')).create,
  },
  { name: 'start', group: vm, summary: 'start VMs', load: async () => (await lifecycle()).start },
  { name: 'stop', group: vm, summary: 'ask VMs to end', load: async () => (await lifecycle()).stop },
  { name: 'restart', group: vm, summary: 'stop and start VMs', load: async () => (await lifecycle()).restart },
  { name: 'kill', group: vm, summary: 'send a signal to VMs', load: async () => (await lifecycle()).kill },
  {
    name: 'sleep',
    group: vm,
    summary: 'write VMs out until they are needed',
    load: async () => (await lifecycle()).sleep,
  },
  { name: 'wake', group: vm, summary: 'let VMs that sleep go on', load: async () => (await lifecycle()).wake },
  { name: 'pause', group: vm, summary: 'stop the processors of VMs', load: async () => (await lifecycle()).pause },
  { name: 'unpause', group: vm, summary: 'let paused VMs go on', load: async () => (await lifecycle()).unpause },
  { name: 'wait', group: vm, summary: 'wait for the end of VMs', load: async () => (await lifecycle()).wait },
  {
    name: 'attach',
    group: vm,
    summary: "put a VM's process on this terminal",
    load: async () => (await lifecycle()).attach,
  },
  { name: 'rename', group: vm, summary: 'give a VM another name', load: async () => (await lifecycle()).rename },
  {
    name: 'fork',
    group: vm,
    summary: 'make VMs that go on from where one is',
    load: async () => (await import('./verbs/fork.ts')).fork,
  },
  {
    name: 'checkpoint',
    group: vm,
    summary: 'put VMs away as they are, and go on from there',
    load: async () => (await import('./verbs/checkpoint.ts')).checkpoint,
  },
  { name: 'rm', group: vm, summary: 'remove VMs', load: async () => (await lifecycle()).rm },
  { name: 'logs', group: vm, summary: 'show what a VM wrote', load: async () => (await looking()).logs },
  { name: 'top', group: vm, summary: 'list the processes in a VM', load: async () => (await looking()).top },
  {
    name: 'stats',
    group: vm,
    summary: 'show what VMs take of this machine',
    load: async () => (await import('./verbs/stats.ts')).stats,
  },
  { name: 'port', group: vm, summary: "show a VM's published ports", load: async () => (await looking()).port },
  {
    name: 'inspect',
    group: vm,
    summary: 'show everything about VMs or images',
    load: async () => (await looking()).inspect,
  },
  { name: 'images', group: image, summary: 'list images', load: async () => (await images()).images },
  { name: 'pull', group: image, summary: 'fetch an image from a registry', load: async () => (await images()).pull },
  { name: 'load', group: image, summary: 'load images from an archive', load: async () => (await images()).load },
  { name: 'save', group: image, summary: 'write images into an archive', load: async () => (await images()).save },
  {
    name: 'import',
    group: image,
    summary: 'make an image from an archive of files',
    load: async () => (await images()).import,
  },
  { name: 'tag', group: image, summary: 'give an image another name', load: async () => (await images()).tag },
  { name: 'rmi', group: image, summary: 'remove images', load: async () => (await images()).rmi },
  { name: 'history', group: image, summary: 'show how an image was made', load: async () => (await images()).history },
  { name: 'search', group: image, summary: 'search a registry', load: async () => (await images()).search },
  { name: 'image prune', group: image, summary: 'remove images nobody uses', load: async () => (await images()).prune },
  {
    name: 'volume',
    group: vm,
    summary: 'make, list and remove disks that outlive VMs',
    load: async () => (await import('./verbs/volume.ts')).volume,
  },
  {
    name: 'source',
    group: estate,
    summary: 'hypervisors whose VMs are known',
    load: async () => (await import('./verbs/source.ts')).source,
  },
  {
    name: 'fleet',
    group: estate,
    summary: 'all VMs of all hypervisors, where they are and were',
    load: async () => (await import('./verbs/fleet.ts')).fleet,
  },
  { name: 'events', group: engine, summary: 'show what happens', load: async () => (await system()).events },
  {
    name: 'info',
    group: engine,
    summary: 'show the state of daemon and host',
    load: async () => (await system()).info,
  },
  { name: 'version', group: engine, summary: 'show versions', load: async () => (await system()).version },
  { name: 'system df', group: engine, summary: 'show what takes how much disk', load: async () => (await system()).df },
  {
    name: 'cost',
    group: engine,
    summary: 'show what VMs cost',
    load: async () => (await import('#cost-verb')).cost,
  },
  {
    name: 'doctor',
    group: engine,
    summary: 'examine this machine',
    load: async () => (await import('./verbs/doctor.ts')).doctor,
  },
  {
    name: 'daemon',
    group: engine,
    summary: 'start, stop and look at the daemon',
    load: async () => (await import('./verbs/daemon.ts')).daemon,
  },
  {
    name: 'bench',
    group: engine,
    summary: 'measure berth beside dockerd, podman and bare QEMU',
    load: async () => (await import('./verbs/bench.ts')).bench,
  },
  {
    name: 'setup',
    group: engine,
    summary: 'set this checkout up again',
    load: async () => (await import('./verbs/setup.ts')).setup,
  },
  {
    name: 'completion',
    group: engine,
    summary: 'print completions for bash, zsh or fish',
    load: async () => (await import('./verbs/completion.ts')).completion,
  },
];

/** `container ls`, `image rm` and the like: Docker's longer names. */
const ALIASES: Readonly<Record<string, string>> = {
  'container ls': 'ps',
  'container list': 'ps',
  'container ps': 'ps',
  'image ls': 'images',
  'image list': 'images',
  'image rm': 'rmi',
  'image remove': 'rmi',
  'container remove': 'rm',
  'system info': 'info',
  'system events': 'events',
};

/** Of the words of a command line: the verb, and how many words named it. */
export function findVerb(words: readonly string[]): { readonly verb: VerbEntry; readonly taken: number } | undefined {
  const [first = '', second = ''] = words;
  const byName = (name: string): VerbEntry | undefined => VERBS.find((entry) => entry.name === name);
  if (first === 'container' || first === 'vm' || first === 'image' || first === 'system') {
    const group = first === 'vm' ? 'container' : first;
    const alias = ALIASES[`${group} ${second}`];
    const verb = alias === undefined ? (byName(`${group} ${second}`) ?? inGroup(group, byName(second))) : byName(alias);
    return verb === undefined ? undefined : { verb, taken: 2 };
  }
  const verb = byName(first);
  return verb === undefined ? undefined : { verb, taken: 1 };
}

function inGroup(group: string, verb: VerbEntry | undefined): VerbEntry | undefined {
  if (group === 'container' && verb?.group === vm) return verb;
  return group === 'image' && (verb?.group === image || verb?.name === 'inspect') ? verb : undefined;
}
