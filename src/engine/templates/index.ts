export { MemoryHolder, type MemoryRange, saveMemory } from './memory-holder.ts';
export { type MachineShape, type Template, templateKey } from './template-maker.ts';
export { endTemplateProcesses, type TemplateCounters, Templates, type TemplatesSettings } from './templates.ts';
