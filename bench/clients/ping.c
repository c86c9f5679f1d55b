/* ping SWITCH STATION PEER SIZE COUNT
 *
 * Sends one frame, waits for its echo, COUNT times, and notes each round trip. After the first word it meets its
 * peer, after the second it begins.
 * Prints {"lost", "round_trip_ns": [...]}.
 */
#include "plug.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Round trips before the first that counts: caches, the scheduler's idea of us, the switch's tables. */
#define WARM_UP 500
#define LOST_MILLISECONDS 1000

int main(int argc, char **argv)
{
	if (argc != 6)
		die("usage: ping SWITCH STATION PEER SIZE COUNT", false);
	unsigned station = number(argv[2], "STATION"), peer = number(argv[3], "PEER");
	size_t size = number(argv[4], "SIZE");
	unsigned count = number(argv[5], "COUNT");
	uint8_t own[6], other[6], out[LARGE_FRAME], in[2048];
	if (size < sizeof(struct test_frame) || size > sizeof out || count == 0)
		die("SIZE or COUNT is out of range", false);
	uint64_t *taken = calloc(count, sizeof *taken);
	if (taken == NULL)
		die("calloc", true);

	int fd = plug_open(argv[1]);
	station_mac(own, station);
	station_mac(other, peer);
	say_hello(fd, station);
	say_ready();
	await_word();
	meet(fd, station, peer);
	receive_timeout(fd, LOST_MILLISECONDS);
	say_ready();
	await_word();

	unsigned lost = 0, kept = 0;
	for (unsigned i = 0; i < WARM_UP + count; i++) {
		frame_fill(out, size, other, own, PING, i);
		uint64_t before = now_ns();
		if (send(fd, out, size, 0) < 0)
			die("send", true);
		for (;;) {
			ssize_t length = recv(fd, in, sizeof in, 0);
			if (length < 0 && errno == EAGAIN) {
				lost++;
				break;
			}
			if (length < 0 && errno != EINTR)
				die("recv", true);
			struct test_frame *frame = length < 0 ? NULL : frame_of(in, (size_t)length);
			if (frame == NULL || frame->kind != PONG || frame->sequence != i)
				continue;
			if (i >= WARM_UP)
				taken[kept++] = now_ns() - before;
			break;
		}
	}
	printf("{\"lost\": %u, \"round_trip_ns\": [", lost);
	for (unsigned i = 0; i < kept; i++)
		printf("%s%" PRIu64, i == 0 ? "" : ", ", taken[i]);
	printf("]}\n");
	return 0;
}
