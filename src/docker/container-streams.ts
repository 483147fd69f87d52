/** Attach, logs and exec: the endpoints whose answer is a stream. */
import type { Readable, Writable } from 'node:stream';
import { BerthError } from '#base';
import { type Exec, followLog, hasMachine, type LogRecord, type OutputStream, type Vm } from '#engine';
import { nowMs } from '#platform';
import type { Call } from './call.ts';
import type { DockerContext } from './context.ts';
import { ExecCreateSchema, ExecStartSchema } from './create-body.ts';
import { DetachWatcher, parseDetachKeys } from './detach-keys.ts';
import { parseTime, rfc3339, signalAt } from './durations.ts';
import { containerHappened } from './event-log.ts';
import { frame, MULTIPLEXED, RAW, write } from './frames.ts';
import type { Route } from './router.ts';

const DEFAULT_DETACH_KEYS = 'ctrl-p,ctrl-q';
const NEWLINE = 10;

export function streamRoutes(context: DockerContext): Route[] {
  const { engine } = context;
  const contentType = (call: Call, tty: boolean): string => (!tty && call.atLeast(1, 42) ? MULTIPLEXED : RAW);

  const attach = async (call: Call): Promise<void> => {
    const vm = engine.find(call.parameter('id'));
    const { state } = vm.record;
    if (state.name === 'paused')
      throw new BerthError('conflict', 'vm.paused', `container ${vm.record.id} is paused, unpause it before attach`);
    if (state.name === 'removing' || state.name === 'dead')
      throw new BerthError('conflict', 'vm.removing', 'container is marked for removal');
    const { tty, openStdin, stdinOnce } = vm.record.spec.process;
    const wanted = streamsOf(call);
    const keys = parseDetachKeys(call.query.get('detachKeys') || DEFAULT_DETACH_KEYS);
    const log = await vm.log();
    // From here on nothing is missed, whatever happens between this answer and `start`.
    const position = call.flag('logs') ? 0 : log.size;
    const { input, output } = await call.takeOver(contentType(call, tty));
    containerHappened(context, vm, 'attach');
    const left = new AbortController();
    call.signal.addEventListener('abort', () => left.abort(), { once: true });
    if (call.flag('stdin') && openStdin) {
      void pipeStdin(input, tty ? new DetachWatcher(keys) : undefined, {
        write: (data) => vm.writeStdin(data),
        end: () => (stdinOnce && !tty ? vm.endStdin() : Promise.resolve()),
        detach: () => {
          containerHappened(context, vm, 'detach');
          left.abort();
        },
      });
    } else {
      input.resume();
    }
    if (call.flag('stream')) {
      for await (const record of followLog(log, { position, nextEnd: true }, left.signal)) {
        if (wanted(record.stream)) await write(output, tty ? record.data : frame(record.stream, record.data));
      }
    } else if (call.flag('logs')) {
      for await (const { record } of log.read(0)) {
        if (wanted(record.stream)) await write(output, tty ? record.data : frame(record.stream, record.data));
      }
    }
    output.end();
  };

  const logs = async (call: Call): Promise<void> => {
    const vm = engine.find(call.parameter('id'));
    const wanted = streamsOf(call);
    const { tty } = vm.record.spec.process;
    const now = nowMs();
    const since = parseTime(call.query.get('since'), now);
    const until = parseTime(call.query.get('until'), now);
    const tailText = call.query.get('tail') ?? 'all';
    const tail = /^[0-9]+$/.test(tailText) ? Number(tailText) : undefined;
    const follow = call.flag('follow') && hasMachine(vm.record.state);
    const log = await vm.log();
    const response = call.stream(contentType(call, tty));
    const writer = new LineWriter(response, { tty, timestamps: call.flag('timestamps') });
    const start = tail === undefined ? 0 : await log.positionOfTail(tail, wanted);
    const end = log.size;
    const keep = (record: LogRecord): boolean =>
      wanted(record.stream) &&
      (since === undefined || record.timeMs >= since) &&
      (until === undefined || record.timeMs <= until);
    if (tail === undefined) {
      for await (const { record } of log.read(start)) if (keep(record)) await writer.write(record);
    } else {
      const lines = new TailLines(tail);
      for await (const { record } of log.read(start)) if (keep(record)) lines.add(record);
      for (const line of lines.take()) await writer.write(line);
    }
    if (follow && (until === undefined || until > now)) {
      const left = until === undefined ? call.signal : AbortSignal.any([call.signal, signalAt(until, now)]);
      for await (const record of followLog(log, { position: end, nextEnd: vm.record.state.name === 'starting' }, left))
        if (keep(record)) await writer.write(record);
    }
    response.end();
  };

  const execCreate = async (call: Call): Promise<void> => {
    const vm = engine.find(call.parameter('id'));
    const body = await call.json(ExecCreateSchema);
    const args = body.Cmd ?? [];
    if (args.length === 0) throw new BerthError('invalid', 'exec.no_command', 'No exec command specified');
    await vm.awake();
    const main = vm.record.spec.process;
    const exec = vm.createExec({
      attachStdout: body.AttachStdout === true,
      attachStderr: body.AttachStderr === true,
      docker: body,
      process: {
        ...main,
        args,
        env: [...main.env, ...(body.Env ?? [])],
        workingDirectory: body.WorkingDir || main.workingDirectory,
        user: body.User || main.user,
        tty: body.Tty === true,
        openStdin: body.AttachStdin === true,
        stdinOnce: true,
      },
    });
    execHappened(context, vm, exec, 'exec_create');
    call.reply(201, { Id: exec.id });
  };

  const execStart = async (call: Call): Promise<void> => {
    const { vm, exec } = engine.findExec(call.parameter('id'));
    await vm.awake();
    const body = await call.json(ExecStartSchema);
    const [rows, columns] = body.ConsoleSize ?? [];
    const size = rows !== undefined && columns !== undefined && rows > 0 && columns > 0 ? { rows, columns } : undefined;
    if (body.Detach === true) {
      await vm.startExec(exec, size);
      execHappened(context, vm, exec, 'exec_start');
      call.reply(200);
      return;
    }
    const { tty, openStdin } = exec.spec.process;
    vm.link();
    if (exec.state.name !== 'created')
      throw new BerthError('conflict', 'exec.already_started', `exec ${exec.id} has already run`);
    const taken = await call.takeOver(contentType(call, tty));
    const keys = (exec.spec.docker as { DetachKeys?: string | null }).DetachKeys || DEFAULT_DETACH_KEYS;
    await runAttachedExec({
      vm,
      exec,
      tty,
      openStdin,
      keys,
      taken,
      size,
      signal: call.signal,
      onStarted: () => execHappened(context, vm, exec, 'exec_start'),
    });
  };

  const execInspect = (call: Call): void => {
    const { vm, exec } = engine.findExec(call.parameter('id'));
    const { process } = exec.spec;
    const running = exec.state.name === 'running';
    call.reply(200, {
      ID: exec.id,
      Running: running,
      ExitCode: exec.state.name === 'exited' ? exec.state.exitCode : null,
      ProcessConfig: {
        tty: process.tty,
        entrypoint: process.args[0] ?? '',
        arguments: process.args.slice(1),
        privileged: (exec.spec.docker as { Privileged?: boolean | null }).Privileged === true,
        ...(process.user === '' ? {} : { user: process.user }),
      },
      OpenStdin: process.openStdin,
      OpenStderr: exec.spec.attachStderr,
      OpenStdout: exec.spec.attachStdout,
      CanRemove: false,
      ContainerID: vm.record.id,
      DetachKeys: '',
      Pid: exec.state.name === 'running' ? exec.state.pid : 0,
    });
  };

  const sizeOf = (call: Call): { rows: number; columns: number } => {
    const [rows, columns] = [call.number('h') ?? 0, call.number('w') ?? 0];
    if (rows < 0 || rows > 65535 || columns < 0 || columns > 65535) {
      throw new BerthError('invalid', 'resize.size', `the terminal size ${rows} × ${columns} is out of range`);
    }
    return { rows, columns };
  };

  return [
    { method: 'POST', path: '/containers/{id}/attach', summary: 'attach to the main process', handle: attach },
    { method: 'GET', path: '/containers/{id}/logs', summary: 'what the main process wrote', handle: logs },
    {
      method: 'POST',
      path: '/containers/{id}/resize',
      summary: 'size of the terminal',
      handle: (call) => {
        const size = sizeOf(call);
        const vm = engine.find(call.parameter('id'));
        vm.resize(size.rows, size.columns);
        containerHappened(context, vm, 'resize', { height: String(size.rows), width: String(size.columns) });
        call.reply(200);
      },
    },
    { method: 'POST', path: '/containers/{id}/exec', summary: 'make another process', handle: execCreate },
    { method: 'POST', path: '/exec/{id}/start', summary: 'start it', handle: execStart },
    { method: 'GET', path: '/exec/{id}/json', summary: 'inspect it', handle: execInspect },
    {
      method: 'POST',
      path: '/exec/{id}/resize',
      summary: 'size of its terminal',
      handle: (call) => {
        const { vm, exec } = engine.findExec(call.parameter('id'));
        vm.link().resize(exec.channelId, sizeOf(call));
        call.reply(200);
      },
    },
  ];
}

function execHappened(context: DockerContext, vm: Vm, exec: Exec, action: string): void {
  containerHappened(context, vm, `${action}: ${exec.spec.process.args.join(' ')}`, { execID: exec.id });
}

/** @throws streams.none (invalid), in dockerd's words. */
function streamsOf(call: Call): (stream: OutputStream) => boolean {
  const [stdout, stderr] = [call.flag('stdout'), call.flag('stderr')];
  const isAttach = call.request.method === 'POST';
  if (!stdout && !stderr && !isAttach) {
    throw new BerthError('invalid', 'streams.none', 'Bad parameters: you must choose at least one stream');
  }
  return (stream) => (stream === 1 ? stdout : stderr);
}

interface StdinTarget {
  write(data: Buffer): Promise<void>;
  end(): Promise<void>;
  detach(): void;
}

/** Pumps a client's input at the pace the guest takes it. Its end, or the client's, ends the process's input. */
async function pipeStdin(input: Readable, watcher: DetachWatcher | undefined, target: StdinTarget): Promise<void> {
  try {
    for await (const chunk of input) {
      const data = chunk as Buffer;
      const { pass, detached } = watcher?.feed(data) ?? { pass: data, detached: false };
      if (pass.length > 0) await target.write(pass);
      if (detached) {
        target.detach();
        return;
      }
    }
  } catch {
    // The client broke off: for the process that is the end of its input, as below.
  }
  await target.end().catch(() => {});
}

async function runAttachedExec(run: {
  readonly vm: Vm;
  readonly exec: Exec;
  readonly tty: boolean;
  readonly openStdin: boolean;
  readonly keys: string;
  readonly taken: { readonly input: Readable; readonly output: Writable };
  readonly size: { readonly rows: number; readonly columns: number } | undefined;
  readonly signal: AbortSignal;
  readonly onStarted: () => void;
}): Promise<void> {
  const { vm, exec, tty, taken } = run;
  const { input, output } = taken;
  exec.sink = (stream, data) => write(output, tty ? data : frame(stream, data));
  const gone = new Promise<void>((resolve) => run.signal.addEventListener('abort', () => resolve(), { once: true }));
  try {
    await vm.startExec(exec, run.size);
  } catch (error) {
    // dockerd reports it inside the stream, since the connection is already taken over.
    const words = `OCI runtime exec failed: ${error instanceof Error ? error.message : String(error)}\r\n`;
    await write(output, tty ? words : frame(1, Buffer.from(words)));
    output.end();
    return;
  }
  run.onStarted();
  let detach: () => void = () => {};
  const detached = new Promise<void>((resolve) => {
    detach = resolve;
  });
  if (run.openStdin) {
    const link = vm.link();
    void pipeStdin(input, tty ? new DetachWatcher(parseDetachKeys(run.keys)) : undefined, {
      write: (data) => link.writeStdin(exec.channelId, data),
      end: async () => link.endStdin(exec.channelId),
      detach,
    });
  } else {
    input.resume();
  }
  await Promise.race([exec.ended, detached, gone]);
  exec.sink = undefined;
  output.end();
}

/** Cuts records into lines where it must: timestamps stand before each line, not before each chunk. */
class LineWriter {
  readonly #output: Writable;
  readonly #tty: boolean;
  readonly #timestamps: boolean;
  readonly #midLine = new Set<OutputStream>();

  constructor(output: Writable, options: { readonly tty: boolean; readonly timestamps: boolean }) {
    this.#output = output;
    this.#tty = options.tty;
    this.#timestamps = options.timestamps;
  }

  async write(record: LogRecord): Promise<void> {
    const data = this.#timestamps ? this.#stamped(record) : record.data;
    await write(this.#output, this.#tty ? data : frame(record.stream, data));
  }

  #stamped(record: LogRecord): Buffer {
    const stamp = Buffer.from(`${rfc3339(record.timeMs)} `);
    const parts: Buffer[] = [];
    let start = 0;
    while (start < record.data.length) {
      const newline = record.data.indexOf(NEWLINE, start);
      const end = newline < 0 ? record.data.length : newline + 1;
      if (!this.#midLine.has(record.stream)) parts.push(stamp);
      parts.push(record.data.subarray(start, end));
      if (newline < 0) this.#midLine.add(record.stream);
      else this.#midLine.delete(record.stream);
      start = end;
    }
    return Buffer.concat(parts);
  }
}

/** Keeps the last lines of what it is given; a line may come in several records. */
class TailLines {
  readonly #limit: number;
  readonly #lines: LogRecord[] = [];
  readonly #open = new Map<OutputStream, LogRecord>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(record: LogRecord): void {
    let start = 0;
    while (start < record.data.length) {
      const newline = record.data.indexOf(NEWLINE, start);
      const end = newline < 0 ? record.data.length : newline + 1;
      const before = this.#open.get(record.stream);
      const piece = record.data.subarray(start, end);
      const line =
        before === undefined ? { ...record, data: piece } : { ...before, data: Buffer.concat([before.data, piece]) };
      if (newline < 0) this.#open.set(record.stream, line);
      else {
        this.#open.delete(record.stream);
        this.#lines.push(line);
        if (this.#lines.length > this.#limit) this.#lines.shift();
      }
      start = end;
    }
  }

  take(): readonly LogRecord[] {
    const all = [...this.#lines, ...this.#open.values()];
    return this.#limit === 0 ? [] : all.slice(-this.#limit);
  }
}
