export { type ByteStream, GuestChannel, type GuestChannelHandlers, type GuestOutput } from './channel.ts';
export type {
  ConfigureOutcome,
  GuestConfiguration,
  GuestHello,
  GuestLayer,
  GuestMemory,
  GuestNetwork,
  GuestPhase,
  GuestProcessSpec,
  GuestProcessState,
  GuestTopEntry,
  OutputStream,
  ProcessExit,
  StartOutcome,
} from './messages.ts';
