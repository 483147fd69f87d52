export * from './guest-channel/index.ts';
