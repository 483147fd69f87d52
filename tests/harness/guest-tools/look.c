/* One program for what tests want to know of a guest: a shell under emulation takes ten times as long. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* Prints the clock, nanoseconds since the epoch, a few times: each line leaves at once. */
static void print_clock(void)
{
	for (int i = 0; i < 40; i++) {
		struct timespec now;
		clock_gettime(CLOCK_REALTIME, &now);
		printf("%lld%09ld\n", (long long)now.tv_sec, now.tv_nsec);
		fflush(stdout);
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	}
}

static void print_file(const char *path)
{
	char text[256] = "";
	int fd = open(path, O_RDONLY);
	ssize_t count = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (count < 0)
		count = snprintf(text, sizeof text, "no %s", path);
	text[count] = '\0';
	text[strcspn(text, "\n")] = '\0';
	puts(text);
	if (fd >= 0)
		close(fd);
}

/* A line each of what no two machines may share. */
static void print_identity(void)
{
	unsigned char bytes[16];
	char name[256] = "";
	if (getrandom(bytes, sizeof bytes, 0) == sizeof bytes)
		for (size_t i = 0; i < sizeof bytes; i++)
			printf("%02x", bytes[i]);
	puts("");
	print_file("/proc/sys/kernel/random/uuid");
	print_file("/proc/sys/kernel/random/boot_id");
	print_file("/etc/machine-id");
	print_file("/sys/class/dmi/id/product_uuid");
	gethostname(name, sizeof name - 1);
	puts(name);
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "clock"))
		print_clock();
	else
		print_identity();
	return 0;
}
