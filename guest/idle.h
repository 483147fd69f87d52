/* A guest nobody uses should not wake its processor. See decisions/0008. */
#pragma once

/* Turns off the kernel's housekeeping timers that have nothing to do in a guest. Once, early; nothing here can fail
 * in a way that matters: a knob this kernel lacks leaves the timer running. */
void settle_guest(void);
