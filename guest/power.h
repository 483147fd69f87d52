/* The end of the machine. */
#pragma once

/* Kills everything, flushes the writable disk, tells the host, powers off. Does not return. */
_Noreturn void end_machine(void);
_Noreturn void power_off(void);
