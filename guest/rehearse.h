/* REHEARSE: a fresh guest goes through a whole CONFIGURE and START in a world of its own, so that both are quick when
 * they come for good: under emulation code that has run once runs ten times faster. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Answers with REHEARSED. Nothing of it is left but what the processor and the kernel's caches keep. */
void rehearse(uint32_t request, const uint8_t *payload, size_t length);
