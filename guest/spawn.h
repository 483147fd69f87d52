/* Starting a process in the root: see START in PROTOCOL.md. */
#pragma once
#include "bytes.h"

#include <sys/types.h>

enum failure { FAILED_NOT_FOUND = 1, FAILED_NOT_EXECUTABLE, FAILED_UNKNOWN_USER, FAILED_OTHER };

struct spawned {
	pid_t pid;             /* 0: it failed, and the next two say how */
	enum failure failure;
	char text[512];
	bool tty;
	int input;             /* write end or tty master (the same number as output[0]), -1: /dev/null */
	int output[2];         /* read ends; for a terminal [0] is its master and [1] is -1 */
};

/* Decodes the fields of START and starts the process. All descriptors are non-blocking and close-on-exec. */
void spawn_process(const uint8_t *payload, size_t length, struct spawned *spawned);
