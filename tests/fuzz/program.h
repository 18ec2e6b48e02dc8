/*
 * A program of guest operations, decoded from an input, on a disk whose images are mutated: whatever opens for writing must
 * behave from then on as a plain array does.
 */
#ifndef FUZZ_PROGRAM_H
#define FUZZ_PROGRAM_H

#include "disk.h"

#define FUZZ_MOST_LAYERS 2u

struct fuzz_program {
    struct fuzz_guard    guards[FUZZ_MOST_LAYERS]; /* top first */
    struct vhdx_storage *storages[FUZZ_MOST_LAYERS];
    unsigned             count;
    struct vhdx_disk    *disk; /* NULL: not open */
    struct fuzz_view     view;
    struct fuzz_verdict  verdict; /* of the top image, before anything was done */
    unsigned             moment_count;
};

/* Takes the files.  The last one is dropped when the top image has no parent. */
void fuzz_program_init(struct fuzz_program *program, struct vhdx_storage *const *memories, unsigned count);
void fuzz_program_destroy(struct fuzz_program *program);

/* Open for writing.  False when it is refused, and then it was not written to. */
bool fuzz_program_begin(struct fuzz_program *program, struct fuzz_input *input);

/* Do what the rest of the input says, then close and check. */
void fuzz_program_run(struct fuzz_program *program, struct fuzz_input *input);

/* Does a chain opened anew (over fewer files, perhaps) show what the model says? */
void fuzz_program_compare(struct fuzz_program *program, struct vhdx_storage *const *storages, unsigned count);

#endif
