/* GUIDs as bytes: loads, stores and random ones.  Text form: include/vhdx/guid.h. */
#ifndef VX_GUID_H
#define VX_GUID_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <vhdx/error.h>
#include <vhdx/guid.h>

static inline struct vhdx_guid
vx_guid_load(const uint8_t *p)
{
    struct vhdx_guid guid;

    memcpy(guid.bytes, p, sizeof guid.bytes);
    return guid;
}

static inline void
vx_guid_store(uint8_t *p, const struct vhdx_guid *guid)
{
    memcpy(p, guid->bytes, sizeof guid->bytes);
}

/* Random bytes from the system.  Never fails on the systems we know; where it would, a code. */
int vx_random_bytes(void *buffer, size_t length, struct vhdx_error *err);

/* A random (version 4) GUID in Windows binary form, never all zero. */
int vx_guid_random(struct vhdx_guid *out, struct vhdx_error *err);

#ifdef VHDX_TEST_HOOKS
/* Tests make randomness repeat: a non-zero seed starts a known sequence, 0 goes back to the system's. */
void vx_random_seed_for_tests(uint64_t seed);
#endif

#endif
