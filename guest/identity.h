/* IDENTIFY of PROTOCOL.md: a copy of a machine becomes another one, while its processes are frozen. */
#pragma once
#include "configure.h"
#include "frame.h"

void handle_identify(const struct message *message);
/* What a payload of CONFIGURE's fields says that tells machines apart. `to` is the caller's to forget. On failure errno
 * says why and `what` names the step. */
bool take_identity(struct configuration *to, const uint8_t *payload, size_t length, char *what, size_t size);
