/*
 * blocks.h: the Blocks runtime as the library itself uses it.
 *
 * The library is compiled without -fblocks: it keeps a client's block by _Block_copy and calls it through
 * the invoke pointer of the literal, as the framework's compiler does.
 */
#ifndef SIM_BLOCKS_H
#define SIM_BLOCKS_H

#include <stdint.h>

struct sim_block {
    void *isa;
    int32_t flags;
    int32_t reserved;
    void (*invoke)(void);
    void *descriptor;
};

#define SIM_INVOKE(block, type) ((type)((struct sim_block *)(block))->invoke)

/* A reference of the library's own: not counted among the client's. Checks that it is a block. */
void *sim_block_keep(const void *block, const char *where);
void sim_block_drop(void *block);

#endif
