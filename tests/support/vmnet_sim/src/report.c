/* report.c: violations and leaks, one line each. */
#include "report.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dispatch_internal.h"
#include "interface.h"
#include "object.h"
#include "xpc_internal.h"

/* A client that repeats a mistake for every frame should not fill the disk. */
#define MOST_LINES 200
static atomic_int lines;

static void write_line(const char *format, va_list arguments) {
    if (atomic_fetch_add(&lines, 1) >= MOST_LINES)
        return;
    char line[1024];
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    if (length < 0)
        return;
    if ((size_t)length > sizeof line - 2)
        length = sizeof line - 2;
    line[length++] = '\n';
    const char *path = getenv("VMNET_SIM_REPORT");
    /* Opened each time: a daemon may close every descriptor it does not know. */
    int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    ssize_t done = write(fd >= 0 ? fd : STDERR_FILENO, line, (size_t)length);
    (void)done;
    if (fd >= 0)
        close(fd);
}

void sim_violation(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(format, arguments);
    va_end(arguments);
}

void sim_fatal(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(format, arguments);
    va_end(arguments);
    abort();
}

static void report_object(struct sim_object *object, void *context) {
    int *count = context;
    if (object->kind == SIM_INTERFACE) {
        /* Handles stay; what matters is whether they were stopped. */
        if (!sim_interface_needs_stop((struct vmnet_interface *)object))
            return;
        sim_violation("leak: an interface was not stopped");
    } else if (object->kind == SIM_XPC) {
        if (sim_xpc_is_contained(object))
            return;
        sim_violation("leak: an XPC object with %ld reference(s): %s", atomic_load(&object->references),
                      sim_xpc_type_name(object));
    } else if (object->kind == SIM_QUEUE) {
        sim_violation("leak: the dispatch queue \"%s\" with %ld reference(s)", sim_queue_label(object),
                      atomic_load(&object->references));
    } else {
        sim_violation("leak: %s with %ld reference(s)", sim_kind_name(object->kind),
                      atomic_load(&object->references));
    }
    ++*count;
}

static atomic_int reported;

int vmnet_sim_report_leaks(void) {
    int count = 0;
    if (atomic_exchange(&reported, 1))
        return 0;
    sim_dispatch_settle();
    sim_object_each(report_object, &count);
    long blocks = sim_blocks_alive();
    if (blocks > 0) {
        sim_violation("leak: %ld heap block(s)", blocks);
        count++;
    }
    return count;
}

/* Priorities: the pool of threads ends first (103), then leaks are told (102), then memory goes (101). */
static __attribute__((destructor(102))) void at_exit(void) {
    vmnet_sim_report_leaks();
}
