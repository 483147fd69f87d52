/* What the kernel says about processes and memory: TOP and MEMORY. */
#pragma once
#include <stdint.h>

void reply_top(uint32_t request);
void reply_memory(uint32_t request);
/* How often the OOM killer struck since boot. */
uint64_t oom_kills(void);
