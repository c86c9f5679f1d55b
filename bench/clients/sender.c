/* sender SWITCH STATION PEER SIZE MILLISECONDS RATE
 *
 * Sends numbered frames to one peer with blocking sendmmsg, as fast as the switch takes them (RATE 0) or RATE
 * frames a second. A frame counts as sent when the kernel has taken it. After the first word it meets its peer,
 * after the second it sends: so that addresses are learned when every plug is in, because vde_switch forgets
 * stations when a port is added.
 * Prints {"sent", "start_ns", "end_ns"}.
 */
#define _GNU_SOURCE
#include "plug.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 32
/* A paced sender wakes this often; a tick it slept through is not made up for. */
#define TICK_NS 1000000ull

static uint8_t frames[BATCH][LARGE_FRAME];
static struct iovec vectors[BATCH];
static struct mmsghdr messages[BATCH];

static void send_all(int fd, unsigned count, uint64_t first)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t sequence = first + i;
		memcpy(frames[i] + offsetof(struct test_frame, sequence), &sequence, sizeof sequence);
	}
	for (unsigned done = 0; done < count;) {
		int sent = sendmmsg(fd, messages + done, count - done, 0);
		if (sent < 0 && errno != EINTR)
			die("sendmmsg", true);
		done += sent > 0 ? (unsigned)sent : 0;
	}
}

int main(int argc, char **argv)
{
	if (argc != 7)
		die("usage: sender SWITCH STATION PEER SIZE MILLISECONDS RATE", false);
	unsigned station = number(argv[2], "STATION"), peer = number(argv[3], "PEER");
	size_t size = number(argv[4], "SIZE");
	uint64_t duration = number(argv[5], "MILLISECONDS") * 1000000ull;
	uint64_t rate = number(argv[6], "RATE");
	if (size < sizeof(struct test_frame) || size > LARGE_FRAME)
		die("SIZE is out of range", false);

	int fd = plug_open(argv[1]);
	uint8_t own[6], other[6];
	station_mac(own, station);
	station_mac(other, peer);
	for (int i = 0; i < BATCH; i++) {
		frame_fill(frames[i], size, other, own, DATA, 0);
		vectors[i] = (struct iovec){frames[i], size};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
	}
	say_hello(fd, station);
	say_ready();
	await_word();
	meet(fd, station, peer);
	say_ready();
	await_word();

	uint64_t start = now_ns(), end = start + duration, sent = 0, now = start;
	if (rate == 0) {
		for (; now < end; now = now_ns(), sent += BATCH)
			send_all(fd, BATCH, sent);
	} else {
		/* The remainder of a rate that is no multiple of 1000 is carried on. */
		uint64_t owed = 0;
		for (uint64_t tick = start; now < end; now = now_ns()) {
			owed += rate * TICK_NS;
			for (unsigned due = (unsigned)(owed / 1000000000ull); due > 0;) {
				unsigned count = due < BATCH ? due : BATCH;
				send_all(fd, count, sent);
				sent += count;
				due -= count;
			}
			owed %= 1000000000ull;
			now = now_ns();
			tick = tick + TICK_NS > now ? tick + TICK_NS : now;
			struct timespec until = {(time_t)(tick / 1000000000ull), (long)(tick % 1000000000ull)};
			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		}
	}
	printf("{\"sent\": %" PRIu64 ", \"start_ns\": %" PRIu64 ", \"end_ns\": %" PRIu64 "}\n", sent, start, now);
	return 0;
}
