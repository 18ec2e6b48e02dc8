/* One disk's life against the model: shared by the parts of model_test. */
#ifndef MODEL_RUN_H
#define MODEL_RUN_H

#include <vhdx/disk.h>

#include "model.h"
#include "random.h"

#define LONGEST_WRITE ((size_t)4 << 20)

struct config {
    char                 name[48];
    enum vhdx_format     format; /* VHDX or RAW */
    enum vhdx_image_type type;
    uint64_t             size;
    uint32_t             block_size, sector_size;
    uint64_t             longest_discard; /* bytes zeroed or trimmed at once */
    uint64_t             cache_bytes;
    size_t               scattered; /* windows spread evenly over the disk; 0: at the places where something ends */
    bool                 cannot_punch, extension_unsure;
};

/* Guest ranges in which the reading and writing happens. */
struct window {
    uint64_t guest_offset, length;
};

struct run {
    const struct config *config;
    uint64_t             seed;
    struct random        random;
    struct vhdx_storage *memory; /* the file */
    struct vhdx_disk    *disk;
    struct model         model;
    struct window       *windows;
    size_t               window_count;
    uint8_t             *bytes, *expected; /* LONGEST_WRITE of each */
    unsigned             op_count;
    bool                 gives_back; /* zeroes and trims: without that no space of the file may get lost */
    bool                 is_violated;
};

/* All configurations, in a fixed order. */
#define MOST_CONFIGS 64u
extern struct config configs[MOST_CONFIGS];
extern size_t        config_count;
void configs_make(void);
/* The windows of a configuration; the run owns them. */
void windows_make(struct run *run);

/* A run from a new image to its last close.  False after a violation, which it prints. */
bool run_once(const struct config *config, uint64_t seed);

/* Compare the disk with the model: bytes and extents. */
bool examine(struct run *run);
bool examine_read(struct run *run, uint64_t guest_offset, size_t length);
bool examine_extents(struct run *run, uint64_t guest_offset, uint64_t length, bool is_sparse);

/* Print what is wrong, with all that brings it back.  Returns false. */
bool violated(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
