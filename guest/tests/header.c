/*
 * What the C header says of this machine and of the table that it reads: for
 * the test beside it.
 */
#include <stdio.h>
#include "underlay.h"

int main(void)
{
	unsigned char table[UNDERLAY_TOKEN_TABLE_SIZE + 1];
	struct underlay_call call = { UNDERLAY_PING, 0, 0, 0, 0, 0 };
	struct underlay_token token = { 0, 0 };
	unsigned long bytes = fread(table, 1, sizeof(table), stdin);
	uint32_t instruction = underlay_find();
	int is_table = underlay_token_from(table, bytes, &token);

	printf("table %d token %llx %llx\n", is_table, (unsigned long long)token.r8,
	       (unsigned long long)token.r9);
	printf("instruction %u\n", instruction);
	if (instruction != 0)
		printf("version %d\n", (int)underlay_call_as_owner(instruction, &call, &token));
	return instruction != 0 && underlay_call(instruction, &call) < 0;
}
