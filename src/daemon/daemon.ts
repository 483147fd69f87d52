/**
 * The composition root: opens what one daemon needs, connects the areas, serves, and lets go again.
 */
import { randomUUID } from 'node:crypto';
import { dirname } from 'node:path';
import * as v from 'valibot';
import { apiHandler } from '#api';
import { BerthError, messageOf } from '#base';
import { type DockerContext, EventLog, serveDocker } from '#docker';
import {
  type AcceleratorVerdict,
  DEFAULT_SHAPE,
  Engine,
  type EngineSettings,
  judgeAccelerators,
  type NetworkPort,
  type ProbePlan,
  StartGate,
  type VmHappening,
  type VmRecord,
} from '#engine';
import { berthDriver, Fleet, hypervDriver, libvirtDriver, OWN_URL, vsphereDriver, xapiDriver, xenDriver } from '#fleet';
import { busyboxImage, ImageService } from '#images';
import { type BridgeIdentity, BridgeNetwork, UserNetwork } from '#network';
import { files, hostFacts, nowMs, runChecked, type Server } from '#platform';
import { type Installation, identifyHost } from '#setup';
import { EmptyDisks, Volumes } from '#storage';
import { lockFolder, openRecordStore, type RecordStore } from '#store';
import { publishBootFiles, sweepBootFiles } from './boot-files.ts';
import { FleetMetrics } from './fleet-metrics.ts';
import { DaemonMetrics } from './metrics.ts';
import { costMetrics } from './money/cost-metrics.ts';
import { MoneyDesk } from './money/desk.ts';
import { readOwnerRules } from './money/owner-rules.ts';
import { moneyPlaces } from './money/places.ts';
import { OwnVmNews, ownVms } from './own-vms.ts';
import { writePidFile } from './pid-file.ts';
import { FIRST_UID, kvmGroup, probePlan } from './qemu.ts';
import { retentionFrom } from './retention.ts';
import type { DaemonSettings } from './settings.ts';
import { openTemplates, poolSize } from './templates.ts';
import { VERSION } from './version.ts';

/** Starts under way at once. Under emulation each keeps a processor busy; with KVM two wait for one another less. */
const STARTS_PER_PROCESSOR = 2;
const BUILT_IN_IMAGE = 'berth/busybox:latest';
const IdentitySchema = v.object({ bridge: v.string(), subnet: v.string() });

export interface RunningDaemon {
  readonly settings: DaemonSettings;
  close(): Promise<void>;
}

export async function startDaemon(
  settings: DaemonSettings,
  installation: Installation,
  log: (line: string) => void,
): Promise<RunningDaemon> {
  await files.mkdir(settings.stateFolder, { recursive: true, mode: 0o711 });
  await files.mkdir(settings.runFolder, { recursive: true, mode: 0o711 });
  if (/["\n\\,]/.test(settings.stateFolder + settings.runFolder)) {
    throw new BerthError(
      'invalid',
      'daemon.folder',
      'the state and run folders may not hold quotes, commas, backslashes or newlines',
      {
        hint: 'choose others with --state-dir and --run-dir',
      },
    );
  }
  const retention = retentionFrom(process.env);
  if (settings.isRoot) for (const folder of [settings.stateFolder, settings.runFolder]) await requirePassage(folder);
  const lock = lockFolder(settings.stateFolder);
  // Whoever sees it serve may ask it to leave, and finds it by this; where there is no room for it nothing was made yet.
  await writePidFile(settings.runFolder);
  const records = openRecordStore(`${settings.stateFolder}/berth.db`);
  const boot = await publishBootFiles(installation, settings.stateFolder);
  await sweepBootFiles(boot, settings.stateFolder);
  const leaving = new AbortController();
  const plan = { ...(await probePlan(settings, installation, boot)), signal: leaving.signal };
  const accelerators = new Accelerators(plan, `${settings.stateFolder}/accelerators.json`, log);
  const images = await ImageService.open({ root: `${settings.stateFolder}/images` });
  const bridge = settings.isRoot ? await openNetwork(settings, records, log) : undefined;
  const events = new EventLog();
  const templates = await openTemplates(settings, installation, log);
  const metrics = new DaemonMetrics();
  const news = new OwnVmNews();
  const counters = { pool: 0, clone: 0, boot: 0, cloneFailures: 0 };
  const startedAtMs = nowMs();
  const build = async () => ({ ...plan.build, accelerator: (await accelerators.verdict()).chosen });
  const qemu = await qemuVersion(plan.build.binary);
  // Templates live in memory; what lies in their folder was being made when a daemon died.
  await files.rm(`${settings.stateFolder}/templates`, { recursive: true, force: true });
  const disks = new EmptyDisks(`${settings.stateFolder}/templates`, {
    mkfsExt4: '/sbin/mkfs.ext4',
    qemuImg: '/usr/bin/qemu-img',
  });
  const volumes = await Volumes.open({
    folder: `${settings.stateFolder}/volumes`,
    records: {
      save: (name, document) => records.put('volume', name, document),
      remove: (name) => records.remove('volume', name),
      loadAll: () => records.list('volume').map(({ document }) => document),
    },
    makeDisk: (path, bytes) => disks.create(path, bytes, undefined),
  });
  const engine = new Engine(
    {
      disks,
      volumes,
      network: bridge === undefined ? new UserNetwork() : networkPort(bridge),
      images: { layersOf: async (id) => (await images.rootDiskOf(id)).layers },
      records: recordPort(records, (id) => {
        news.tell(id);
        // A volume that they share may be another's now.
        for (const { volume } of engine.get(id)?.record.spec.volumes ?? [])
          for (const user of engine.usersOf(volume)) news.tell(user.record.id);
      }),
      onHappening: (happening) => {
        if (happening.action === 'start') metrics.started(happening.vm);
        events.add(eventOf(happening));
        news.tell(happening.vm.id);
      },
      log,
    },
    {
      stateFolder: settings.stateFolder,
      runFolder: settings.runFolder,
      build,
      launcher: installation.launcher,
      memoryProgram: installation.memoryProgram,
      twinProgram: settings.isRoot && process.env['BERTH_TWINS'] !== 'off' ? installation.twinProgram : undefined,
      firstUid: settings.isRoot ? FIRST_UID : undefined,
      kvmGroup: await kvmGroup(),
      templates,
      poolSize: poolSize(),
      rehearsal: () => rehearsalIn(images),
      versions: { guestKernel: boot.guestKernel, qemu },
      counters,
      gate: new StartGate(STARTS_PER_PROCESSOR * hostFacts().cpus),
    },
  );
  await ensureBuiltInImage(images, log);
  await engine.open();
  await bridge?.reconcile();
  const context: DockerContext = {
    engine,
    images,
    volumes,
    events,
    accelerator: () => accelerators.summary(),
    metrics: () => [
      ...metrics.collect({ engine, counters, templates, startedAtMs }),
      ...fleetMetrics.collect(nowMs()),
      ...costMetrics(money.summary),
    ],
    log,
    facts: {
      ...hostFacts(),
      version: VERSION,
      apiName: 'berth',
      guestKernel: boot.guestKernel,
      operatingSystem: (await identifyHost()).distribution,
      qemuVersion: qemu,
      stateFolder: settings.stateFolder,
      startedAtMs,
      daemonId: daemonId(records),
    },
  };
  const moneyFolder = `${settings.stateFolder}/money`;
  const fleet = await Fleet.open({
    folder: settings.stateFolder,
    drivers: [
      berthDriver(await ownVms({ engine, volumes, news, version: VERSION, qemuVersion: qemu })),
      libvirtDriver,
      vsphereDriver,
      xenDriver,
      xapiDriver,
      hypervDriver,
    ],
    holder: daemonId(records),
    // Before the first look: a VM is never written as somebody else's.
    owners: (await readOwnerRules(moneyPlaces(moneyFolder)))?.rules,
    keeping: { retention, neededMonths: (months) => money.neededMonths(months) },
    log,
  });
  const fleetMetrics = new FleetMetrics(fleet);
  fleet.ensureSource({ name: 'berth', url: OWN_URL, allowPower: true });
  const money = await MoneyDesk.open({
    folder: moneyFolder,
    fleet: `${settings.stateFolder}/fleet.db`,
    program: installation.moneyProgram,
    scope: daemonId(records),
    log,
    onOwnerRules: (rules) => fleet.setOwnerRules(rules),
  });
  const own = apiHandler({ fleet, money, version: VERSION, log });
  const server: Server = await serveDocker(context, { path: settings.socket, mode: 0o660 }, own);
  // Known before the first start asks; a start that comes sooner waits for it.
  void build()
    .then((known) => templates?.obtain(known, DEFAULT_SHAPE))
    .catch((error: unknown) => log(messageOf(error)));
  log(`serving on ${settings.socket}, state in ${settings.stateFolder}`);
  return {
    settings,
    close: async () => {
      leaving.abort();
      server.close();
      server.closeAllConnections();
      // One that fails leaves the others their turn: what they hold must not outlive the daemon.
      const steps: (() => Promise<void> | undefined)[] = [
        () => money.close(),
        () => fleet.close(),
        () => engine.close(),
        () => templates?.close(),
        () => bridge?.close(),
        () => files.rm(settings.socket, { force: true }),
      ];
      for (const step of steps) await Promise.resolve(step()).catch((error: unknown) => log(messageOf(error)));
      records.close();
      lock.release();
    },
  };
}

/** QEMU runs as a user of its own and has to come through to its disks and sockets. @throws daemon.folder (denied) */
async function requirePassage(folder: string): Promise<void> {
  for (let path = await files.realpath(folder); path !== '/'; path = dirname(path)) {
    const { mode } = await files.stat(path);
    if ((mode & 0o001) !== 0) continue;
    throw new BerthError(
      'denied',
      'daemon.folder',
      `${folder} cannot be used: other users may not pass through ${path} (mode ${(mode & 0o777).toString(8)}), and QEMU runs as a user of its own`,
      {
        hint: `choose another folder with --state-dir and --run-dir, or: chmod o+x ${path}`,
      },
    );
  }
}

/** The verdict on accelerators, reached once per daemon and kept on disk. */
class Accelerators {
  readonly #plan: ProbePlan;
  readonly #cachePath: string;
  readonly #log: (line: string) => void;
  #pending: Promise<AcceleratorVerdict> | undefined;
  #known: AcceleratorVerdict | undefined;

  constructor(plan: ProbePlan, cachePath: string, log: (line: string) => void) {
    this.#plan = plan;
    this.#cachePath = cachePath;
    this.#log = log;
  }

  verdict(): Promise<AcceleratorVerdict> {
    if (this.#pending === undefined) {
      this.#pending = judgeAccelerators(this.#plan, this.#cachePath);
      this.#pending.then(
        (verdict) => {
          this.#known = verdict;
          this.#log(
            `accelerator: ${verdict.chosen} (${verdict.probes.map((probe) => `${probe.accelerator}: ${probe.why}`).join('; ')})`,
          );
        },
        // The next start asks again: what was missing may have been installed.
        () => {
          this.#pending = undefined;
        },
      );
    }
    return this.#pending;
  }

  summary(): { name: string; warnings: readonly string[] } {
    const name = this.#known?.chosen ?? 'not known yet';
    const tcg =
      'WARNING: KVM does not work here; VMs run under TCG (software emulation), which is slow and isolates no tenants';
    return { name, warnings: name === 'tcg' ? [tcg] : [] };
  }
}

async function openNetwork(
  settings: DaemonSettings,
  records: RecordStore,
  log: (line: string) => void,
): Promise<BridgeNetwork> {
  const stored = records.list('network').find((record) => record.id === 'bridge')?.document;
  const parsed = v.safeParse(IdentitySchema, stored);
  return await BridgeNetwork.open({
    runFolder: settings.runFolder,
    identity: parsed.success ? parsed.output : undefined,
    owner: `berth ${daemonId(records)}`,
    saveIdentity: (identity: BridgeIdentity) => records.put('network', 'bridge', identity),
    log,
  });
}

function networkPort(network: BridgeNetwork): NetworkPort {
  return {
    bridge: network.identity.bridge,
    attach: (request) => network.attach(request),
    restore: (vmId, attachment, names) => network.restore(vmId, attachment, names),
    rename: (vmId, names) => network.rename(vmId, names),
    detach: (vmId) => network.detach(vmId),
    hold: (vmId, wake) => network.hold(vmId, wake),
    unhold: (vmId) => network.unhold(vmId),
  };
}

/**
 * Records are written by this program alone and carry a version; a newer one is refused rather than misread.
 *
 * @param onChange - told of every VM whose record was written or taken away.
 */
function recordPort(
  records: RecordStore,
  onChange: (id: string) => void,
): {
  save(record: VmRecord): void;
  remove(id: string): void;
  loadAll(): VmRecord[];
} {
  return {
    save: (record) => {
      records.put('vm', record.id, record);
      onChange(record.id);
    },
    remove: (id) => {
      records.remove('vm', id);
      onChange(id);
    },
    loadAll: () =>
      records.list('vm').map(({ id, document }) => {
        const version = (document as { version?: unknown }).version;
        if (version !== 1) {
          throw new BerthError(
            'unsupported',
            'record.version',
            `the record of VM ${id} has version ${String(version)}; this berth reads version 1`,
            {
              hint: 'start the newer berth that wrote it',
            },
          );
        }
        return document as VmRecord;
      }),
  };
}

function eventOf(happening: VmHappening): Parameters<EventLog['add']>[0] {
  const { record } = { record: happening.vm };
  return {
    type: 'container',
    action: happening.action,
    id: record.id,
    attributes: {
      ...record.spec.labels,
      image: record.spec.imageReference,
      name: record.name,
      ...happening.attributes,
    },
    timeMs: happening.timeMs,
  };
}

/** Machines in the pool go once through a start with berth's own image: nothing of a user's is in them. */
async function rehearsalIn(images: ImageService): Promise<Awaited<ReturnType<EngineSettings['rehearsal']>>> {
  const image = (await images.list()).find((one) => one.tags.includes(BUILT_IN_IMAGE));
  if (image === undefined) return undefined;
  return { layers: (await images.rootDiskOf(image.id)).layers, args: ['/bin/true'] };
}

/** The first `run` needs no registry: the image is made from Debian's busybox when it is not there. */
async function ensureBuiltInImage(images: ImageService, log: (line: string) => void): Promise<void> {
  if ((await images.list()).some((image) => image.tags.includes(BUILT_IN_IMAGE))) return;
  try {
    const busyboxPath = '/bin/busybox';
    // As old as the program in it: the same program always gives the same image id.
    const createdAtMs = (await files.stat(busyboxPath)).mtimeMs;
    await images.createFromTar({ ...(await busyboxImage({ busyboxPath })), reference: BUILT_IN_IMAGE, createdAtMs });
    log(`made the image ${BUILT_IN_IMAGE}`);
  } catch (error) {
    log(`the image ${BUILT_IN_IMAGE} could not be made: ${messageOf(error)}`);
  }
}

async function qemuVersion(binary: string): Promise<string> {
  try {
    const { stdout } = await runChecked([binary, '--version']);
    return /version ([0-9.]+)/.exec(stdout)?.[1] ?? 'unknown';
  } catch (error) {
    return `missing (${messageOf(error)})`;
  }
}

function daemonId(records: RecordStore): string {
  const stored = records.list('daemon').find((record) => record.id === 'id')?.document;
  if (typeof stored === 'string') return stored;
  const id = randomUUID();
  records.put('daemon', 'id', id);
  return id;
}
