/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Calls with nothing but registers: any program may make them. */
#include <stdio.h>
#include <string.h>
#include "underlay.h"

int main(void)
{
	uint32_t instruction = underlay_find();
	struct underlay_call call = { .rax = UNDERLAY_PING };
	int64_t answer;

	if (instruction == 0) {
		fprintf(stderr, "Underlay is not beneath this machine\n");
		return 1;
	}
	answer = underlay_call(instruction, &call);
	printf("ping: version %lld of the call interface\n", (long long)answer);

	call.rax = UNDERLAY_HELLO;
	answer = underlay_call(instruction, &call);
	printf("hello: greeting number %lld\n", (long long)answer);

	/* Errors are negative errno values, as of a system call. */
	call.rax = 1000000;
	answer = underlay_call(instruction, &call);
	printf("a service that nobody has: %s\n", strerror((int)-answer));
	return 0;
}
