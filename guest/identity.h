/* IDENTIFY of PROTOCOL.md: a copy of a machine becomes another one, while its processes are frozen. */
#pragma once
#include "frame.h"

void handle_identify(const struct message *message);
