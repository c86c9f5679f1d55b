/*
 * personality.h: which macOS this build of the library plays: 1100, 1300, 1500, 1504 or 2600.
 *
 * Symbols that a version lacks are left out by the linker (symbols.txt); what differs while running asks here.
 */
#ifndef SIM_PERSONALITY_H
#define SIM_PERSONALITY_H

int sim_macos(void);
/* Ends the process when it is a child of the one that loaded the library: XPC does not survive a fork. */
void sim_check_process(const char *where);

/* Packets that one call may carry: reported by the interface since macOS 15, 200 by the overview before. */
#define SIM_PACKETS_15 256
#define SIM_PACKETS_OLD 200

#endif
