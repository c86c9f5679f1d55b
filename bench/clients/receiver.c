/* receiver SWITCH STATION read|stuck
 *
 * Counts the numbered frames of one sender until it is told to stop and nothing comes any more. "stuck" answers
 * the sender's first probe and then never reads again, as a guest whose QEMU is stopped.
 * Prints {"frames", "octets", "late", "stray", "last_ns"}: `late` came behind a higher number (reordered or
 * doubled), `stray` was meant for another station or came from a second sender.
 */
#define _GNU_SOURCE
#include "plug.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define BATCH 64
/* Longer than any pause of a running sender, so that a silence after "stop" is the end. */
#define SILENCE_MILLISECONDS 100

static uint8_t frames[BATCH][2048];
static struct iovec vectors[BATCH];
static struct mmsghdr messages[BATCH];

static void acknowledge(int fd, const uint8_t own[6], const struct test_frame *probe)
{
	uint8_t buffer[SMALL_FRAME];
	frame_fill(buffer, sizeof buffer, probe->source, own, ACK, 0);
	if (send(fd, buffer, sizeof buffer, 0) < 0)
		die("send acknowledgement", true);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		die("usage: receiver SWITCH STATION read|stuck", false);
	unsigned station = number(argv[2], "STATION");
	bool stuck = strcmp(argv[3], "stuck") == 0;
	int fd = plug_open(argv[1]);
	uint8_t own[6], sender[6] = {0};
	station_mac(own, station);
	for (int i = 0; i < BATCH; i++) {
		vectors[i] = (struct iovec){frames[i], sizeof frames[i]};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
	}
	receive_timeout(fd, SILENCE_MILLISECONDS);
	say_hello(fd, station);
	say_ready();

	uint64_t count = 0, octets = 0, late = 0, stray = 0, last = 0, next = 0;
	for (;;) {
		int got = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
		if (got < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				die("recvmmsg", true);
			if (word_waiting())
				break;
			continue;
		}
		bool counted = false;
		for (int i = 0; i < got; i++) {
			struct test_frame *frame = frame_of(frames[i], messages[i].msg_len);
			if (frame == NULL)
				continue;
			bool mine = memcmp(frame->destination, own, 6) == 0;
			if (frame->kind == PROBE && mine) {
				memcpy(sender, frame->source, 6);
				acknowledge(fd, own, frame);
				if (stuck) {
					await_word();
					goto told_to_stop;
				}
			} else if (frame->kind != DATA) {
				continue;
			} else if (mine && memcmp(frame->source, sender, 6) == 0) {
				count++;
				octets += messages[i].msg_len;
				if (frame->sequence < next)
					late++;
				else
					next = frame->sequence + 1;
				counted = true;
			} else {
				stray++;
			}
		}
		if (counted)
			last = now_ns();
	}
told_to_stop:
	printf("{\"frames\": %" PRIu64 ", \"octets\": %" PRIu64 ", \"late\": %" PRIu64 ", \"stray\": %" PRIu64
	       ", \"last_ns\": %" PRIu64 "}\n", count, octets, late, stray, last);
	return 0;
}
