export {
  type AcceleratorProbe,
  type AcceleratorVerdict,
  judgeAccelerators,
  type ProbePlan,
  probeAccelerators,
  verdictKey,
} from './accelerator.ts';
export { Engine, NAME_PATTERN } from './engine.ts';
export type { Exec, ExecSpec, ExecState } from './exec.ts';
export {
  GuestChannel,
  type GuestChannelHandlers,
  type GuestConfiguration,
  type GuestLayer,
  type GuestProcessSpec,
  type ProcessExit,
  type StartOutcome,
} from './guest-channel/index.ts';
export type { GuestTopEntry } from './guest-link.ts';
export { hasMachine, isUp } from './lifecycle.ts';
export { followLog } from './log-follow.ts';
export type { NetworkPlug, QemuIdentity } from './machine.ts';
export type {
  BootStage,
  BootTimings,
  ExitFacts,
  LayerFile,
  Machine,
  NetworkAttachment,
  NetworkRequest,
  PortBinding,
  ProcessSpec,
  TerminalSize,
  Ulimit,
  VmRecord,
  VmSpec,
  VmState,
  VolumeMount,
} from './model.ts';
export { DEFAULT_SHAPE, VOLUME_SLOTS } from './model.ts';
export type {
  EnginePorts,
  EngineSettings,
  ImagePort,
  NetworkPort,
  RecordPort,
  StartCounters,
  VmHappening,
} from './ports.ts';
export type { LogRecord, OutputStream, ProcessLog } from './process-log.ts';
export { kernelArguments, type QemuBuild, type QemuRun, qemuArguments } from './qemu-command.ts';
export { QmpClient } from './qmp.ts';
export { layOutRootDisk } from './root-disk.ts';
export { StartGate } from './start-gate.ts';
export { endTemplateProcesses, Templates, type TemplatesSettings } from './templates/index.ts';
export type { Vm } from './vm.ts';
export type { WaitCondition } from './vm-milestones.ts';
export type { HostMemory, VmUsage } from './vm-usage.ts';
