#define _GNU_SOURCE
#include "spawn.h"

#include "files.h"
#include "guest.h"
#include "log.h"
#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

enum {
	STRINGS_MAX = 65536, /* arguments and variables together; a message has at most 1 MiB */
	LIMITS_MAX = 32,
	CHILD_STACK = 65536,
};

static const char DEFAULT_PATH[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

struct limit {
	int resource;
	struct rlimit value;
};

/* Everything the child needs, prepared by the parent. The child shares our memory until it execs (CLONE_VM), so it
 * must not allocate, and reports its failure by writing into `failure` and `text`. */
struct job {
	char **argv, **envp;
	size_t argc, envc;
	char *cwd;
	const char *user;
	bool tty, open_input, no_new_privs, has_oom_score, cwd_must_exist;
	int32_t oom_score;
	struct winsize size;
	struct limit limits[LIMITS_MAX];
	size_t limit_count;
	uint64_t dropped_capabilities;
	struct identity identity;
	int child_input, child_output, child_error;
	char path[PATH_MAX]; /* scratch for the PATH search */
	enum failure failure;
	char *text;
	size_t text_size;
};

static void fail(struct job *job, enum failure failure, const char *text)
{
	job->failure = failure;
	snprintf(job->text, job->text_size, "%s", text);
}

/* ---- in the child: system calls only, nothing that allocates ---- */

static void child_fail(struct job *job, enum failure failure, const char *what)
{
	int error = errno;
	job->failure = failure;
	snprintf(job->text, job->text_size, "%s: %s", what, strerror(error));
}

static bool is_executable_file(const char *path)
{
	struct stat about;
	return stat(path, &about) == 0 && S_ISREG(about.st_mode) && access(path, X_OK) == 0;
}

static const char *variable(const struct job *job, const char *name)
{
	size_t length = strlen(name);
	for (size_t i = 0; i < job->envc; i++)
		if (strncmp(job->envp[i], name, length) == 0 && job->envp[i][length] == '=')
			return job->envp[i] + length + 1;
	return NULL;
}

/* Go's exec.LookPath, as runc uses it: with a slash the path itself, else the process's own PATH. */
static bool look_up(struct job *job)
{
	const char *name = job->argv[0];
	struct stat about;
	if (strchr(name, '/')) {
		snprintf(job->path, sizeof job->path, "%s", name);
		const char *reason = NULL;
		if (stat(name, &about)) {
			job->failure = errno == EACCES ? FAILED_NOT_EXECUTABLE : FAILED_NOT_FOUND;
			if (errno == EACCES)
				snprintf(job->text, job->text_size, "exec: \"%s\": permission denied", name);
			else
				snprintf(job->text, job->text_size, "exec: \"%s\": stat %s: %s", name, name,
					 errno == ENOENT	? "no such file or directory"
					 : errno == ENOTDIR ? "not a directory"
							    : strerror(errno));
			return false;
		}
		if (S_ISDIR(about.st_mode))
			reason = "is a directory";
		else if (!is_executable_file(name))
			reason = "permission denied";
		if (!reason)
			return true;
		job->failure = FAILED_NOT_EXECUTABLE;
		snprintf(job->text, job->text_size, "exec: \"%s\": %s", name, reason);
		return false;
	}
	const char *at = variable(job, "PATH");
	while (*name && at && *at) {
		size_t part = strcspn(at, ":");
		snprintf(job->path, sizeof job->path, "%.*s/%s", part ? (int)part : 1, part ? at : ".", name);
		if (is_executable_file(job->path))
			return true;
		at += part + (at[part] == ':');
	}
	job->failure = FAILED_NOT_FOUND;
	snprintf(job->text, job->text_size, "exec: \"%s\": executable file not found in $PATH", name);
	return false;
}

static bool set_resources(struct job *job)
{
	char number[16];
	for (size_t i = 0; i < job->limit_count; i++)
		if (syscall(SYS_prlimit64, 0, job->limits[i].resource, &job->limits[i].value, NULL)) {
			child_fail(job, FAILED_OTHER, "error setting rlimit");
			return false;
		}
	snprintf(number, sizeof number, "%d", job->oom_score);
	/* PID 1 has the usual one, which the child inherits: the kernel never picks PID 1 whatever it has. */
	if (job->has_oom_score && !write_text(guest.proc, "self/oom_score_adj", number)) {
		child_fail(job, FAILED_OTHER, "error setting oom_score_adj");
		return false;
	}
	return true;
}

/* Raw system calls: the C library's versions speak to all threads of a process, and we share memory with PID 1. */
static bool become(struct job *job)
{
	const struct identity *who = &job->identity;
	for (int capability = 0; capability < 64; capability++)
		if (job->dropped_capabilities >> capability & 1 &&
		    prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) && errno != EINVAL) {
			child_fail(job, FAILED_OTHER, "error dropping capabilities");
			return false;
		}
	if (syscall(SYS_setgroups, who->group_count, who->groups) ||
	    syscall(SYS_setresgid, who->gid, who->gid, who->gid) ||
	    syscall(SYS_setresuid, who->uid, who->uid, who->uid)) {
		child_fail(job, FAILED_OTHER, "error setting user");
		return false;
	}
	if (job->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
		child_fail(job, FAILED_OTHER, "error setting no_new_privs");
		return false;
	}
	return true;
}

static void reset_signals(void)
{
	struct sigaction plain = { .sa_handler = SIG_DFL };
	sigset_t none;
	sigaction(SIGPIPE, &plain, NULL); /* the only disposition PID 1 changed */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static bool change_folder(struct job *job)
{
	if (chdir(job->cwd) == 0)
		return true;
	int error = errno;
	job->failure = FAILED_OTHER;
	snprintf(job->text, job->text_size, "chdir to cwd (\"%s\") set in config.json failed: %s", job->cwd,
		 error == ENOENT    ? "no such file or directory"
		 : error == ENOTDIR ? "not a directory"
		 : error == EACCES  ? "permission denied"
				    : strerror(error));
	return false;
}

static void explain_exec(struct job *job)
{
	int error = errno;
	const char *reason = error == ENOENT	? "no such file or directory"
			     : error == EACCES	? "permission denied"
			     : error == ENOEXEC ? "exec format error"
						: strerror(error);
	job->failure = error == ENOENT				? FAILED_NOT_FOUND
		       : error == EACCES || error == ENOEXEC ? FAILED_NOT_EXECUTABLE
							     : FAILED_OTHER;
	snprintf(job->text, job->text_size, "exec %s: %s", job->path, reason);
}

static int child_main(void *argument)
{
	struct job *job = argument;
	setsid();
	if (dup2(job->child_input, 0) < 0 || dup2(job->child_output, 1) < 0 || dup2(job->child_error, 2) < 0) {
		child_fail(job, FAILED_OTHER, "error opening standard streams");
		_exit(1);
	}
	if (job->tty && ioctl(0, TIOCSCTTY, 0)) {
		child_fail(job, FAILED_OTHER, "error taking the terminal");
		_exit(1);
	}
	umask(022);
	if (set_resources(job) && change_folder(job) && become(job) && look_up(job)) {
		reset_signals();
		execve(job->path, job->argv, job->envp);
		explain_exec(job);
	}
	_exit(1);
}

/* ---- in the parent ---- */

static bool push_string(char ***list, size_t *count, char *text)
{
	if (!text)
		return false;
	char **grown = *list;
	if ((*count & 63) == 0)
		grown = realloc(*list, (*count + 65) * sizeof *grown);
	if (!grown || *count >= STRINGS_MAX) {
		if (grown)
			*list = grown;
		free(text);
		return false;
	}
	*list = grown;
	grown[(*count)++] = text;
	grown[*count] = NULL;
	return true;
}

static bool push_variable(struct job *job, const char *name, const char *value)
{
	char *text;
	if (variable(job, name))
		return true;
	return asprintf(&text, "%s=%s", name, value) >= 0 && push_string(&job->envp, &job->envc, text);
}

static void free_strings(char **list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(list[i]);
	free(list);
}

/* Texts of the wanted tag, in turn: users and groups are read after everything else. */
static bool take_identity(struct job *job, const uint8_t *payload, size_t length)
{
	FILE *passwd = open_regular("/etc/passwd"), *group = open_regular("/etc/group");
	bool good = find_identity(passwd, group, job->user ? job->user : "", &job->identity, job->text,
				  job->text_size);
	struct field_cursor cursor = fields_of(payload, length);
	for (struct field field; good && next_field(&cursor, &field);) {
		if (field.tag != 9)
			continue;
		char *name = field_text(&field);
		good = name && add_group(group, name, &job->identity, job->text, job->text_size);
		free(name);
	}
	if (passwd)
		fclose(passwd);
	if (group)
		fclose(group);
	if (!good)
		job->failure = FAILED_UNKNOWN_USER;
	return good;
}

static bool decode(struct job *job, const uint8_t *payload, size_t length, char **user)
{
	struct field_cursor cursor = fields_of(payload, length);
	bool good = true;
	for (struct field field; good && next_field(&cursor, &field);) {
		switch (field.tag) {
		case 1:
			good = push_string(&job->argv, &job->argc, field_text(&field));
			break;
		case 2:
			good = push_string(&job->envp, &job->envc, field_text(&field));
			break;
		case 3:
			free(job->cwd);
			good = (job->cwd = field_text(&field));
			break;
		case 4:
			free(*user);
			good = (*user = field_text(&field));
			break;
		case 5:
			job->tty = field_u32(&field) != 0;
			break;
		case 6:
			if (field.length >= 4)
				job->size = (struct winsize){ .ws_row = load_u16(field.value),
							      .ws_col = load_u16(field.value + 2) };
			break;
		case 7:
			job->open_input = field_u32(&field) != 0;
			break;
		case 8:
			if (field.length >= 20 && job->limit_count < LIMITS_MAX)
				job->limits[job->limit_count++] = (struct limit){
					.resource = (int)load_u32(field.value),
					.value = { .rlim_cur = load_u64(field.value + 4),
						   .rlim_max = load_u64(field.value + 12) },
				};
			break;
		case 10:
			job->dropped_capabilities = field_u64(&field);
			break;
		case 11:
			job->no_new_privs = field_u32(&field) != 0;
			break;
		case 12:
			job->has_oom_score = true;
			job->oom_score = (int32_t)field_u32(&field);
			break;
		case 13:
			job->cwd_must_exist = field_u32(&field) != 0;
			break;
		default:
			break;
		}
	}
	if (!good)
		fail(job, FAILED_OTHER, "the guest has no memory to start a process");
	else if (cursor.malformed)
		fail(job, FAILED_OTHER, "START is malformed");
	else if (job->argc == 0 || (job->argc == 1 && job->argv[0][0] == '\0'))
		fail(job, FAILED_OTHER, "no command specified");
	return !job->failure;
}

static bool complete_environment(struct job *job)
{
	bool good = push_variable(job, "PATH", DEFAULT_PATH) && push_variable(job, "HOSTNAME", guest.hostname) &&
		    (!job->tty || push_variable(job, "TERM", "xterm")) &&
		    push_variable(job, "HOME", job->identity.home);
	if (good && !job->cwd)
		good = (job->cwd = strdup("/"));
	if (good && !*job->cwd) {
		free(job->cwd);
		good = (job->cwd = strdup("/"));
	}
	if (!good)
		fail(job, FAILED_OTHER, "the guest has no memory to start a process");
	return good;
}

static void close_pair(int pair[2])
{
	for (int i = 0; i < 2; i++)
		if (pair[i] >= 0)
			close(pair[i]);
}

/* The child's ends belong to its user, so that opening /dev/stdout again works, as under runc. */
static bool open_terminal(struct job *job, struct spawned *spawned)
{
	int unlock = 0;
	int master = openat(guest.pts, "ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (master < 0)
		return false;
	int peer = -1;
	if (ioctl(master, TIOCSPTLCK, &unlock) == 0)
		peer = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (peer < 0) {
		close(master);
		return false;
	}
	if (job->size.ws_row || job->size.ws_col)
		ioctl(master, TIOCSWINSZ, &job->size);
	if (fchown(peer, job->identity.uid, (gid_t)-1))
		log_line("terminal: %s", strerror(errno));
	job->child_input = job->child_output = job->child_error = peer;
	spawned->output[0] = spawned->input = master;
	return true;
}

static bool open_pipes(struct job *job, struct spawned *spawned)
{
	int input[2] = { -1, -1 }, output[2] = { -1, -1 }, error[2] = { -1, -1 };
	bool good = pipe2(output, O_CLOEXEC) == 0 && pipe2(error, O_CLOEXEC) == 0;
	if (good && job->open_input) {
		good = pipe2(input, O_CLOEXEC) == 0;
	} else if (good) {
		input[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		good = input[0] >= 0;
	}
	if (!good) {
		close_pair(input);
		close_pair(output);
		close_pair(error);
		return false;
	}
	uint32_t uid = job->identity.uid, gid = job->identity.gid;
	bool owned = fchown(output[1], uid, gid) == 0 && fchown(error[1], uid, gid) == 0 &&
		     (!job->open_input || fchown(input[0], uid, gid) == 0);
	if (!owned)
		log_line("standard streams: %s", strerror(errno));
	job->child_input = input[0];
	job->child_output = output[1];
	job->child_error = error[1];
	spawned->input = input[1];
	spawned->output[0] = output[0];
	spawned->output[1] = error[0];
	fcntl(output[0], F_SETFL, O_NONBLOCK);
	fcntl(error[0], F_SETFL, O_NONBLOCK);
	if (input[1] >= 0)
		fcntl(input[1], F_SETFL, O_NONBLOCK);
	return true;
}

static void close_child_ends(const struct job *job)
{
	close(job->child_input);
	if (job->child_output != job->child_input)
		close(job->child_output);
	if (job->child_error != job->child_output)
		close(job->child_error);
}

static void close_own_ends(struct spawned *spawned)
{
	if (spawned->input >= 0 && spawned->input != spawned->output[0])
		close(spawned->input);
	close_pair(spawned->output);
	spawned->input = spawned->output[0] = spawned->output[1] = -1;
}

static void start_child(struct job *job, struct spawned *spawned)
{
	static _Alignas(64) char stack[CHILD_STACK];
	if (!job->cwd_must_exist)
		make_folders(job->cwd, 0755); /* when it cannot be made, the child's chdir says why */
	if (!(job->tty ? open_terminal(job, spawned) : open_pipes(job, spawned))) {
		job->failure = FAILED_OTHER;
		snprintf(job->text, job->text_size, "cannot open standard streams: %s", strerror(errno));
		return;
	}
	/* vfork's semantics: no page tables to copy (15 to 20 ms under TCG for a large parent), and the parent goes on
	 * once the child has execed or failed, so the failure needs no pipe. */
	pid_t pid = clone(child_main, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, job);
	int error = errno;
	close_child_ends(job);
	if (pid < 0) {
		job->failure = FAILED_OTHER;
		snprintf(job->text, job->text_size, "cannot fork: %s", strerror(error));
	}
	if (job->failure)
		close_own_ends(spawned); /* the reaper collects the child */
	else
		spawned->pid = pid;
}

void spawn_process(const uint8_t *payload, size_t length, struct spawned *spawned)
{
	static struct job job;
	char *user = NULL;
	*spawned = (struct spawned){ .input = -1, .output = { -1, -1 } };
	job = (struct job){ .text = spawned->text, .text_size = sizeof spawned->text };
	if (decode(&job, payload, length, &user)) {
		job.user = user;
		spawned->tty = job.tty;
		if (take_identity(&job, payload, length) && complete_environment(&job))
			start_child(&job, spawned);
	}
	spawned->failure = job.failure;
	free_strings(job.argv, job.argc);
	free_strings(job.envp, job.envc);
	free(job.cwd);
	free(user);
}
