/* The guest program's own log: a line goes to berthd as LOG when it listens, and to the console when asked. */
#pragma once

/* One line, without its end. Lines before the first HELLO are kept, a few KiB of them. */
__attribute__((format(printf, 1, 2))) void log_line(const char *format, ...);
/* Something the operator must see even when berthd never connects: also on the console. */
__attribute__((format(printf, 1, 2))) void log_fatal(const char *format, ...);
