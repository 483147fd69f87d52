/* Holding all processes of the user still, so that the machine can be copied: FREEZE and THAW of PROTOCOL.md. */
#pragma once
#include "frame.h"

void handle_freeze(const struct message *message);
void handle_thaw(const struct message *message);
/* Holds still and lets go whatever runs. On failure errno says why and `step` names it. */
bool rehearse_freezing(const char **step);
bool processes_frozen(void);
/* After THAW: whether processes are still in the cgroup they were frozen in, and the way back. */
bool processes_away(void);
void return_processes(void);
/* They were thawed a while ago, and the guest was never idle since. */
bool away_too_long(void);
