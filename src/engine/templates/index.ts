export { copySparse, dataExtents, MemoryHolder, saveMemory } from './memory-holder.ts';
export { type MachineShape, type Template, templateKey } from './template-maker.ts';
export { endTemplateProcesses, Templates, type TemplatesSettings } from './templates.ts';
