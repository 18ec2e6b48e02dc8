/*
 * Runs a fuzz target without libFuzzer: over the files given, or over inputs made from a seed.  For every build and
 * host, and to look at an input that a fuzzer found.
 */
#include "fuzz.h"

#define ROUNDS   5000u
#define MAX_SIZE 512u

static uint64_t random_state = UINT64_C(0x9E3779B97F4A7C15);

static uint64_t
next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void
run_made_inputs(void)
{
    static uint8_t input[MAX_SIZE];
    unsigned round;
    size_t i, size;

    for (round = 0; round < ROUNDS; round++) {
        size = next_random() % MAX_SIZE;
        for (i = 0; i < size; i++)
            input[i] = (uint8_t)(next_random() >> 24);
        LLVMFuzzerTestOneInput(input, size);
    }
}

static int
run_file(const char *path)
{
    static uint8_t input[1 << 20];
    FILE *file = fopen(path, "rb");
    size_t size;

    if (file == NULL) {
        perror(path);
        return 1;
    }
    size = fread(input, 1, sizeof input, file);
    fclose(file);
    LLVMFuzzerTestOneInput(input, size);
    return 0;
}

int
main(int argc, char **argv)
{
    int i, status = 0;

    if (argc == 1)
        run_made_inputs();
    for (i = 1; i < argc; i++)
        status |= run_file(argv[i]);
    return status;
}
