/* Memory, with a hook so that tests can let every allocation fail once.  All of the library allocates here. */
#ifndef VX_MEMORY_H
#define VX_MEMORY_H

#include <stddef.h>

void *vx_alloc(size_t size);                                /* uninitialised; NULL when out of memory */
void *vx_alloc_zeroed(size_t count, size_t size);           /* zeros; NULL also when count * size wraps */
void *vx_realloc_array(void *old, size_t count, size_t size); /* NULL when it fails: `old` is untouched */
char *vx_strdup(const char *text);
void  vx_free(void *memory);                                /* NULL is fine */

#ifdef VHDX_TEST_HOOKS
/* The n-th allocation from now on (1 = the next) fails, once; 0 disarms.  Returns how many happened since last
 * armed. */
size_t vx_alloc_fail_nth_for_tests(size_t n);
#endif

#endif
