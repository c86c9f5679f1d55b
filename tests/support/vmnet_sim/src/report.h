/*
 * report.h: what the client did wrong, said in one line each.
 *
 * Lines go to the file that the environment variable VMNET_SIM_REPORT names, else to standard error.
 */
#ifndef SIM_REPORT_H
#define SIM_REPORT_H

#include <stdbool.h>

/* A breach of the framework's contract after which the call still has a defined result. */
void sim_violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A breach after which nothing can go on, as with the real libraries: reports and aborts. */
void sim_fatal(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* A reference of a heap block taken or given back outside the library (blocks.c). */
long sim_blocks_alive(void);

/* Exported: report every object the client still holds; returns how many. Called at exit as well, once. */
int vmnet_sim_report_leaks(void);

#endif
