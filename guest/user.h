/* Users and groups of the image: /etc/passwd and /etc/group, read line by line with bounds. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { GROUPS_MAX = 1024, HOME_MAX = 1024 };

struct identity {
	uint32_t uid, gid;
	uint32_t groups[GROUPS_MAX];
	size_t group_count;
	char home[HOME_MAX];
};

/* Resolves `user` (`name`, `uid`, `name:group`, ...; empty = root) the way runc does: numbers need no entry, a named
 * user brings its supplementary groups unless a group is given. NULL files count as empty. False with the reason in
 * `error`. */
bool find_identity(FILE *passwd, FILE *group, const char *user, struct identity *identity, char *error,
		   size_t error_size);
/* Adds one supplementary group by name or number. */
bool add_group(FILE *group, const char *name, struct identity *identity, char *error, size_t error_size);
/* The name of `uid`; false when it has no entry. */
bool find_user_name(FILE *passwd, uint32_t uid, char *name, size_t size);
/* Opens a regular file of the image for reading, or NULL: a FIFO or device there must not hang PID 1. */
FILE *open_regular(const char *path);
