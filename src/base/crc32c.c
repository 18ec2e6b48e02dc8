/*
 * CRC-32C (Castagnoli).  docs/vhdx-format.md 1.3, test vectors in its appendix B.
 *
 * Three ways to the same number: the processor's instruction on x86 (SSE 4.2) and on ARMv8 where the system says it
 * is there, and eight tables everywhere else.  Which one is settled at the first call.  All work on the *state*:
 * the CRC before its final inversion.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"

#define POLYNOMIAL 0x82F63B78u /* reflected */

typedef uint32_t (*run_function)(uint32_t state, const uint8_t *bytes, size_t length);

/* tables[0] steps over one byte; tables[k] over that byte with k zero bytes after it. */
static uint32_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void
make_tables(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t state = byte;

        for (int bit = 0; bit < 8; bit++)
            state = state >> 1 ^ (state & 1 ? POLYNOMIAL : 0);
        tables[0][byte] = state;
    }
    for (int k = 1; k < 8; k++)
        for (int byte = 0; byte < 256; byte++)
            tables[k][byte] = tables[k - 1][byte] >> 8 ^ tables[0][tables[k - 1][byte] & 0xFF];
}

/* Slices of eight bytes: eight look-ups that do not wait for each other. */
static uint32_t
run_tables(uint32_t state, const uint8_t *bytes, size_t length)
{
    for (; length >= 8; bytes += 8, length -= 8) {
        uint32_t low = state ^ vx_le32(bytes);
        uint32_t high = vx_le32(bytes + 4);

        state = tables[7][low & 0xFF] ^ tables[6][low >> 8 & 0xFF] ^
                tables[5][low >> 16 & 0xFF] ^ tables[4][low >> 24] ^
                tables[3][high & 0xFF] ^ tables[2][high >> 8 & 0xFF] ^
                tables[1][high >> 16 & 0xFF] ^ tables[0][high >> 24];
    }
    for (; length > 0; bytes++, length--)
        state = state >> 8 ^ tables[0][(state ^ *bytes) & 0xFF];
    return state;
}

#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t
run_instruction(uint32_t state, const uint8_t *bytes, size_t length)
{
#ifdef __x86_64__
    for (; length >= 8; bytes += 8, length -= 8)
        state = (uint32_t)_mm_crc32_u64(state, vx_le64(bytes));
#endif
    for (; length >= 4; bytes += 4, length -= 4)
        state = _mm_crc32_u32(state, vx_le32(bytes));
    for (; length > 0; bytes++, length--)
        state = _mm_crc32_u8(state, *bytes);
    return state;
}

static run_function
find_instruction(void)
{
    return __builtin_cpu_supports("sse4.2") ? run_instruction : NULL;
}

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1ul << 7)
#endif

/* In assembler, because compilers differ in how they offer the instruction to a build for plain ARMv8.0. */
static uint32_t
run_instruction(uint32_t state, const uint8_t *bytes, size_t length)
{
    for (; length >= 8; bytes += 8, length -= 8)
        __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(state) : "r"(vx_le64(bytes)));
    for (; length > 0; bytes++, length--)
        __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(state) : "r"((uint32_t)*bytes));
    return state;
}

static run_function
find_instruction(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0 ? run_instruction : NULL;
}

#else

static run_function
find_instruction(void)
{
    return NULL;
}

#endif

/* Two threads may both come here first; they settle on the same function. */
static uint32_t run_first(uint32_t state, const uint8_t *bytes, size_t length);
static _Atomic(run_function) run = run_first;

static uint32_t
run_first(uint32_t state, const uint8_t *bytes, size_t length)
{
    run_function found = find_instruction();

    if (!found) {
        pthread_once(&tables_once, make_tables);
        found = run_tables;
    }
    atomic_store_explicit(&run, found, memory_order_release); /* the tables are seen by whoever sees it */
    return found(state, bytes, length);
}

uint32_t
vx_crc32c(uint32_t crc, const void *buffer, size_t length)
{
    run_function now = atomic_load_explicit(&run, memory_order_acquire);

    return ~now(~crc, buffer, length);
}

uint32_t
vx_crc32c_hole(const uint8_t *buffer, size_t length, size_t hole_at)
{
    static const uint8_t hole[4];
    uint32_t crc = vx_crc32c(0, buffer, hole_at);

    crc = vx_crc32c(crc, hole, sizeof hole);
    return vx_crc32c(crc, buffer + hole_at + sizeof hole, length - hole_at - sizeof hole);
}

#ifdef VHDX_TEST_HOOKS
size_t
vx_crc32c_paths_for_tests(struct vx_crc32c_path paths[VX_CRC32C_PATHS])
{
    run_function instruction = find_instruction();

    pthread_once(&tables_once, make_tables);
    paths[0] = (struct vx_crc32c_path){ "tables", run_tables };
    if (!instruction)
        return 1;
    paths[1] = (struct vx_crc32c_path){ "instruction", instruction };
    return 2;
}
#endif
