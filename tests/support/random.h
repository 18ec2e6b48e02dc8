/* Random numbers that a printed seed brings back on every host: splitmix64. */
#ifndef SUPPORT_RANDOM_H
#define SUPPORT_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct random {
    uint64_t state;
};

static inline uint64_t
random_next(struct random *random)
{
    uint64_t x = random->state += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* 0 up to bound - 1; 0 when the bound is 0. */
static inline uint64_t
random_below(struct random *random, uint64_t bound)
{
    return bound == 0 ? 0 : random_next(random) % bound;
}

/* From `least` up to `most`, both included. */
static inline uint64_t
random_between(struct random *random, uint64_t least, uint64_t most)
{
    return least + random_below(random, most - least + 1);
}

static inline bool
random_chance(struct random *random, unsigned percent)
{
    return random_below(random, 100) < percent;
}

static inline void
random_fill(struct random *random, uint8_t *bytes, size_t length)
{
    uint64_t word = 0;

    for (size_t i = 0; i < length; i++, word >>= 8) {
        if (i % 8 == 0)
            word = random_next(random);
        bytes[i] = (uint8_t)word;
    }
}

#endif
