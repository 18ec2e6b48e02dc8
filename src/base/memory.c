/*
 * Memory.  A size of 0 is an allocation like any other, so that NULL always means out of memory.
 *
 * In builds for tests one allocation can be made to fail, counted from the moment it was asked for.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#ifdef VHDX_TEST_HOOKS
#include <stdatomic.h>

static atomic_size_t allocation_count;
static atomic_size_t failing_allocation;

size_t
vx_alloc_fail_nth_for_tests(size_t n)
{
    atomic_store(&failing_allocation, n);
    return atomic_exchange(&allocation_count, 0);
}

static int
must_fail(void)
{
    return atomic_fetch_add(&allocation_count, 1) + 1 == atomic_load(&failing_allocation);
}
#else
static inline int
must_fail(void)
{
    return 0;
}
#endif

/* Buffers that files are copied through begin at a page: off a cache line, copies of the kernel are several times slower. */
#define LARGE     ((size_t)64 << 10)
#define ALIGNMENT ((size_t)4096)

void *
vx_alloc(size_t size)
{
    void *memory = NULL;

    if (must_fail())
        return NULL;
    if (size < LARGE)
        return malloc(size > 0 ? size : 1);
    return posix_memalign(&memory, ALIGNMENT, size) == 0 ? memory : NULL;
}

void *
vx_alloc_zeroed(size_t count, size_t size)
{
    if (count == 0 || size == 0)
        count = size = 1;
    if (must_fail() || count > SIZE_MAX / size)
        return NULL;
    return calloc(count, size);
}

void *
vx_realloc_array(void *old, size_t count, size_t size)
{
    if (must_fail() || (size > 0 && count > SIZE_MAX / size))
        return NULL;
    return realloc(old, count * size > 0 ? count * size : 1);
}

char *
vx_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = vx_alloc(size);

    return copy ? memcpy(copy, text, size) : NULL;
}

void
vx_free(void *memory)
{
    free(memory);
}
