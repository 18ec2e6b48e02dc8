/*
 * Runs a fuzz target without libFuzzer, on every build and host:
 *
 *   fuzz_NAME            over inputs made from a fixed seed, by the target's own mutator where it has one
 *   fuzz_NAME FILE...    over files, and the files of folders: what a fuzzer found, tests/corpus
 *   fuzz_NAME -          over standard input: for AFL++, which brings a loop of its own when it compiled this file
 */
#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include "fuzz.h"

#define ROUNDS       5000u
#define IMAGE_ROUNDS 600u /* each opens a whole file several times */
#define MAX_SIZE     512u
#define MOST_CHANGES 12u

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) __attribute__((weak));

static uint8_t input[1 << 20];
static size_t  input_size;

static const char *current_path; /* NULL: an input that was made here */

/* The file that did it is named; what was made here is kept in the current folder. */
static void
name_input(int number)
{
    FILE *file;

    if (current_path != NULL)
        fprintf(stderr, "%s\n", current_path);
    else if ((file = fopen("fuzz-found", "wb")) != NULL) {
        fwrite(input, 1, input_size, file);
        fclose(file);
    }
    signal(number, SIG_DFL);
    raise(number);
}

static void
run(size_t size)
{
    input_size = size;
    LLVMFuzzerTestOneInput(input, size);
}

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
fill_randomly(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        input[i] = (uint8_t)(next_random() >> 24);
}

/* In place of libFuzzer's: other bytes, a few more or less of them. */
size_t
LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size)
{
    size_t wanted = size + (size_t)(next_random() % 16);

    wanted = wanted > 4 ? wanted - 4 : wanted;
    wanted = wanted > max_size ? max_size : wanted;
    for (size_t i = 0; i < wanted; i++)
        if (i >= size || next_random() % 8 == 0)
            data[i] = (uint8_t)(next_random() >> 24);
    return wanted;
}

/* From a sound image with something behind it, changed more and more. */
static void
run_mutated_inputs(void)
{
    for (unsigned round = 0; round < IMAGE_ROUNDS; round++) {
        size_t size = 3 + (size_t)(next_random() % 64);
        unsigned changes = (unsigned)(next_random() % MOST_CHANGES);

        fill_randomly(0, size);
        input[1] = input[2] = 0; /* all checksums good, no record yet */
        for (; changes > 0; changes--)
            size = LLVMFuzzerCustomMutator(input, size, MAX_SIZE, (unsigned)next_random());
        run(size);
    }
}

static void
run_random_inputs(void)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t size = next_random() % MAX_SIZE;

        fill_randomly(0, size);
        run(size);
    }
}

static int
run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    size_t size;

    if (file == NULL) {
        perror(path);
        return 1;
    }
    size = fread(input, 1, sizeof input, file);
    fclose(file);
    current_path = path;
    run(size);
    return 0;
}

/* An empty folder is a mistake: nothing would have been tried. */
static int
run_folder(DIR *folder, const char *path)
{
    const struct dirent *entry;
    char name[4096];
    int status = 0, count = 0;

    while ((entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        status |= run_file(name);
        count++;
    }
    closedir(folder);
    return status | (count == 0);
}

static int
run_path(const char *path)
{
    DIR *folder = opendir(path);

    return folder != NULL ? run_folder(folder, path) : run_file(path);
}

#ifdef __AFL_HAVE_MANUAL_CONTROL
__AFL_FUZZ_INIT();

static void
run_standard_input(void)
{
    const uint8_t *shared;

    __AFL_INIT();
    shared = __AFL_FUZZ_TESTCASE_BUF;
    while (__AFL_LOOP(10000))
        LLVMFuzzerTestOneInput(shared, (size_t)__AFL_FUZZ_TESTCASE_LEN);
}
#else
static void
run_standard_input(void)
{
    LLVMFuzzerTestOneInput(input, fread(input, 1, sizeof input, stdin));
}
#endif

int
main(int argc, char **argv)
{
    int status = 0;

    signal(SIGABRT, name_input);
    if (argc == 1 && LLVMFuzzerCustomMutator != NULL)
        run_mutated_inputs();
    else if (argc == 1)
        run_random_inputs();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-") == 0)
            run_standard_input();
        else
            status |= run_path(argv[i]);
    }
    return status;
}
