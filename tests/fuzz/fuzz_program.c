/* A program of guest operations on a mutated image; a differencing one has a sound parent. */
#include "image.h"
#include "program.h"

const unsigned fuzz_image_count = 1;

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = { data, size }, nothing = { data, 0 };
    struct vhdx_storage *memories[2];
    struct fuzz_program program;

    memories[0] = fuzz_take_image(&input, FUZZ_DYNAMIC);
    memories[1] = fuzz_take_image(&nothing, FUZZ_PARENT);
    fuzz_program_init(&program, memories, 2);
    if (fuzz_program_begin(&program, &input))
        fuzz_program_run(&program, &input);
    fuzz_program_destroy(&program);
    return 0;
}
