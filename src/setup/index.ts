export { buildInitramfs, type InitramfsEntry, packInitramfs } from './initramfs.ts';
