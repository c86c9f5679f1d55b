/* What all bench clients share: a plug, test frames, and the words they exchange with the bench.
 *
 * A client prints "ready" when it is plugged in, reads words ("go", "stop") from standard input, and ends with
 * one line of JSON. It dies with its parent.
 */
#ifndef VDE_VMNET_BENCH_PLUG_H
#define VDE_VMNET_BENCH_PLUG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Smallest Ethernet frame without FCS; what every hello, probe and acknowledgement is. */
#define SMALL_FRAME 60
/* Largest Ethernet frame without FCS and VLAN tag (IEEE 802.3). */
#define LARGE_FRAME 1514

enum kind { HELLO = 1, PROBE, ACK, DATA, PING, PONG };

struct test_frame {
	uint8_t destination[6];
	uint8_t source[6];
	uint8_t ethertype[2]; /* 0x88b5: IEEE 802 local experimental */
	uint8_t kind;
	uint8_t padding;
	uint64_t sequence;
} __attribute__((packed));

/* Ends the process with status 1 and one line on standard error; "why" may be followed by errno's text. */
void die(const char *why, bool with_errno) __attribute__((noreturn));

/* Plugs into the switch directory; returns the blocking data descriptor. The plug lasts as long as the process. */
int plug_open(char *switch_directory);

/* A unicast, locally administered MAC for a station number. */
void station_mac(uint8_t mac[6], unsigned station);

/* Writes a whole frame of `size` octets with a recognisable payload. */
void frame_fill(void *buffer, size_t size, const uint8_t *to, const uint8_t *from, enum kind kind, uint64_t sequence);

/* The frame if `length` octets at `buffer` are one of ours, else NULL. */
struct test_frame *frame_of(void *buffer, size_t length);

/* A broadcast that teaches the switch where we are. */
void say_hello(int fd, unsigned station);

/* Sends probes until the peer acknowledges one: then both addresses are learned and the path works. */
void meet(int fd, unsigned station, unsigned peer);

/* Monotonic, the same clock in every process. */
uint64_t now_ns(void);

unsigned number(const char *text, const char *what);
void receive_timeout(int fd, unsigned milliseconds);
void say_ready(void);
/* Waits for a line on standard input; end of file ends the process. */
void await_word(void);
/* True once a line or the end of standard input is there; never waits. */
bool word_waiting(void);

#endif
