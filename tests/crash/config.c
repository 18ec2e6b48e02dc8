/*
 * The images the crash tests work on: few blocks, small rings, so that reuse, wrap and full logs happen in every run.
 */
#include "crash.h"

#define MIB UINT64_C(0x100000)

#define DISK(unit, punch, trait) { .tear_unit = (unit), .can_punch = (punch), .extension_survives_as_zeros = (trait) }

/*                        write zero trim flush read drop */
#define MIXED_OPS       { 40,   6,   12,  22,   10,  0 }
#define CHILD_OPS       { 40,   8,   10,  22,   10,  4 }
/*                        close power kill failed */
#define ALL_ENDS        { 3,    4,    2,   2 }

const struct crash_config crash_configs[] = {
    {
        .name = "dynamic-512", .disk = DISK(512, true, true), .type = VHDX_TYPE_DYNAMIC, .virtual_size = 5 * MIB,
        .block_size = 1 << 20, .sector_size = 512, .block_count = 5, .blocks = { 0, 1, 2, 3, 4 }, .log_sectors = 10,
        .thread_count = 1, .op_weights = MIXED_OPS, .end_weights = ALL_ENDS, .ops_per_round = 20,
        .rounds_per_run = 6, .whole_percent = 15,
    },
    {
        .name = "dynamic-4096", .disk = DISK(4096, false, false), .type = VHDX_TYPE_DYNAMIC, .virtual_size = 4 * MIB,
        .block_size = 1 << 20, .sector_size = 4096, .block_count = 4, .blocks = { 0, 1, 2, 3 }, .log_sectors = 11,
        .thread_count = 1, .op_weights = MIXED_OPS, .end_weights = ALL_ENDS, .ops_per_round = 20,
        .rounds_per_run = 6, .whole_percent = 15,
    },
    { /* holes inside blocks on a host where little is known of new space */
        .name = "dynamic-4096-holes", .disk = DISK(4096, true, false), .type = VHDX_TYPE_DYNAMIC,
        .virtual_size = 4 * MIB, .block_size = 1 << 20, .sector_size = 4096, .block_count = 4, .blocks = { 0, 1, 2, 3 },
        .log_sectors = 11, .thread_count = 1, .op_weights = MIXED_OPS, .end_weights = ALL_ENDS, .ops_per_round = 20,
        .rounds_per_run = 6, .whole_percent = 15,
    },
    {
        .name = "threads", .disk = DISK(512, true, true), .type = VHDX_TYPE_DYNAMIC, .virtual_size = 4 * MIB,
        .block_size = 1 << 20, .sector_size = 512, .block_count = 4, .blocks = { 0, 1, 2, 3 }, .log_sectors = 13,
        .thread_count = 3, .op_weights = MIXED_OPS, .end_weights = ALL_ENDS, .ops_per_round = 9,
        .rounds_per_run = 6, .whole_percent = 10,
    },
    {
        .name = "many-pages", .disk = DISK(512, true, true), .type = VHDX_TYPE_DYNAMIC, .virtual_size = 2600 * MIB,
        .block_size = 1 << 20, .sector_size = 512, .block_count = 7,
        .blocks = { 0, 510, 511, 512, 1024, 1535, 2560 }, .log_sectors = 13, .thread_count = 2,
        .op_weights = MIXED_OPS, .end_weights = ALL_ENDS, .ops_per_round = 14, .rounds_per_run = 6,
        .whole_percent = 10,
    },
    {
        .name = "many-pages-8", .disk = DISK(4096, true, true), .type = VHDX_TYPE_DYNAMIC,
        .virtual_size = 2600 * MIB, .block_size = 1 << 20, .sector_size = 512, .block_count = 8,
        .blocks = { 0, 1, 510, 511, 512, 1024, 1535, 2560 }, .log_sectors = 8, .thread_count = 1,
        .op_weights = MIXED_OPS, .end_weights = ALL_ENDS, .ops_per_round = 24, .rounds_per_run = 6,
        .whole_percent = 10,
    },
    {
        .name = "child", .disk = DISK(512, true, true), .type = VHDX_TYPE_DIFFERENCING, .virtual_size = 4 * MIB,
        .block_size = 1 << 20, .sector_size = 512, .block_count = 4, .blocks = { 0, 1, 2, 3 }, .log_sectors = 13,
        .thread_count = 1, .op_weights = CHILD_OPS, .end_weights = ALL_ENDS, .ops_per_round = 20,
        .rounds_per_run = 6, .whole_percent = 15,
    },
    {
        .name = "child-threads", .disk = DISK(4096, false, true), .type = VHDX_TYPE_DIFFERENCING,
        .virtual_size = 3 * MIB, .block_size = 1 << 20, .sector_size = 512, .block_count = 3, .blocks = { 0, 1, 2 },
        .log_sectors = 13, .thread_count = 3, .op_weights = CHILD_OPS, .end_weights = ALL_ENDS, .ops_per_round = 9,
        .rounds_per_run = 6, .whole_percent = 12,
    },
    { /* large sectors, and new space that may come back as garbage */
        .name = "child-4096", .disk = DISK(4096, true, false), .type = VHDX_TYPE_DIFFERENCING, .virtual_size = 5 * MIB,
        .block_size = 1 << 20, .sector_size = 4096, .block_count = 5, .blocks = { 0, 1, 2, 3, 4 }, .log_sectors = 13,
        .thread_count = 1, .op_weights = CHILD_OPS, .end_weights = ALL_ENDS, .ops_per_round = 20,
        .rounds_per_run = 6, .whole_percent = 25,
    },
    { /* blocks on both sides of a chunk's end: two sector bitmap blocks, the first of which is freed now and then */
        .name = "child-two-chunks", .disk = DISK(512, true, true), .type = VHDX_TYPE_DIFFERENCING,
        .virtual_size = 4099 * MIB, .block_size = 1 << 20, .sector_size = 512, .block_count = 5,
        .blocks = { 0, 1, 4095, 4096, 4098 }, .log_sectors = 13, .thread_count = 2, .op_weights = CHILD_OPS,
        .end_weights = ALL_ENDS, .ops_per_round = 14, .rounds_per_run = 6, .whole_percent = 20,
    },
    {
        .name = "child-full-host", .disk = DISK(512, true, true), .type = VHDX_TYPE_DIFFERENCING,
        .virtual_size = 6 * MIB, .block_size = 1 << 20, .sector_size = 512, .block_count = 6,
        .blocks = { 0, 1, 2, 3, 4, 5 }, .log_sectors = 13, .thread_count = 1, .op_weights = CHILD_OPS,
        .end_weights = ALL_ENDS, .ops_per_round = 20, .rounds_per_run = 6, .whole_percent = 30, .room = 3 * MIB,
    },
    {
        .name = "full-host", .disk = DISK(512, true, true), .type = VHDX_TYPE_DYNAMIC, .virtual_size = 6 * MIB,
        .block_size = 1 << 20, .sector_size = 512, .block_count = 6, .blocks = { 0, 1, 2, 3, 4, 5 },
        .log_sectors = 12, .thread_count = 1, .op_weights = MIXED_OPS, .end_weights = ALL_ENDS, .ops_per_round = 20,
        .rounds_per_run = 6, .whole_percent = 30, .room = 3 * MIB,
    },
    {
        .name = "fixed", .disk = DISK(512, true, true), .type = VHDX_TYPE_FIXED, .virtual_size = 3 * MIB,
        .block_size = 1 << 20, .sector_size = 512, .block_count = 3, .blocks = { 0, 1, 2 }, .log_sectors = 8,
        .thread_count = 1, .op_weights = MIXED_OPS, .end_weights = ALL_ENDS, .ops_per_round = 20,
        .rounds_per_run = 6, .whole_percent = 10,
    },
};
const size_t crash_config_count = sizeof crash_configs / sizeof crash_configs[0];
