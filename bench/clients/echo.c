/* echo SWITCH STATION
 *
 * Answers probes, and sends every ping back to where it came from, one at a time with blocking calls. Ends when
 * it is told to stop.
 */
#include "plug.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define SILENCE_MILLISECONDS 100

int main(int argc, char **argv)
{
	if (argc != 3)
		die("usage: echo SWITCH STATION", false);
	unsigned station = number(argv[2], "STATION");
	int fd = plug_open(argv[1]);
	uint8_t own[6], buffer[2048];
	station_mac(own, station);
	receive_timeout(fd, SILENCE_MILLISECONDS);
	say_hello(fd, station);
	say_ready();
	for (;;) {
		ssize_t length = recv(fd, buffer, sizeof buffer, 0);
		if (length < 0) {
			if (errno != EAGAIN && errno != EINTR)
				die("recv", true);
			if (word_waiting())
				return 0;
			continue;
		}
		struct test_frame *frame = frame_of(buffer, (size_t)length);
		if (frame == NULL || memcmp(frame->destination, own, 6) != 0)
			continue;
		if (frame->kind != PROBE && frame->kind != PING)
			continue;
		frame->kind = frame->kind == PROBE ? ACK : PONG;
		memcpy(frame->destination, frame->source, 6);
		memcpy(frame->source, own, 6);
		if (send(fd, buffer, (size_t)length, 0) < 0)
			die("send", true);
	}
}
