/* The end of the machine. */
#pragma once

/* Kills everything, flushes the writable disk, tells the host, powers off. Does not return. */
_Noreturn void end_machine(void);
/* Flushes the file system that `root` is the root of; nothing is written to it any more. `name` is for the log. */
void retire_disk(int root, const char *name);
_Noreturn void power_off(void);
