/*
 * A file that never fails: what the host does not give is zeros, and remembered.
 *
 *   A disk that dies returns errors for single sectors, and a file that was cut off ends in the middle of things.  Whoever
 *   reads structures or payload through here gets all that is there; vx_patient_is_whole tells afterwards what was not.
 */
#include "ops/salvage.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/lock.h"
#include "base/memory.h"
#include "storage/storage.h"

#define BAD_LIMIT 65536u
#define SECTOR    4096u

struct patient {
    struct vhdx_storage  storage;
    struct vhdx_storage *source; /* borrowed */
    uint64_t             source_length, length;
    struct vx_mutex      lock; /* rank STORAGE: guards all below */
    struct vx_reserved_range *bad; /* in the order they were met */
    size_t               bad_count, bad_capacity;
    bool                 forgot_some; /* too many, or no memory: everything is suspect */
};

static struct patient *
patient_of(struct vhdx_storage *storage)
{
    return (struct patient *)storage;
}

static void
add_bad_locked(struct patient *patient, uint64_t file_offset, uint64_t length)
{
    struct vx_reserved_range *last = patient->bad_count > 0 ? &patient->bad[patient->bad_count - 1] : NULL;

    for (size_t i = 0; i < patient->bad_count; i++)
        if (patient->bad[i].file_offset <= file_offset
            && file_offset + length <= patient->bad[i].file_offset + patient->bad[i].length)
            return; /* met before */
    if (last != NULL && last->file_offset + last->length == file_offset) {
        last->length += length;
        return;
    }
    if (patient->bad_count == patient->bad_capacity) {
        size_t                    wanted = patient->bad_capacity * 2 + 64;
        struct vx_reserved_range *list = wanted > BAD_LIMIT ? NULL : vx_realloc_array(patient->bad, wanted, sizeof *list);

        if (list == NULL) {
            patient->forgot_some = true;
            return;
        }
        patient->bad = list;
        patient->bad_capacity = wanted;
    }
    patient->bad[patient->bad_count++] = (struct vx_reserved_range){ file_offset, length };
}

/* Sector by sector: one that is lost takes no other with it. */
static void
read_sectors(struct patient *patient, uint8_t *buffer, size_t length, uint64_t file_offset)
{
    while (length > 0) {
        size_t part = (size_t)vx_min_u64(length, SECTOR - file_offset % SECTOR);

        if (vx_storage_read(patient->source, buffer, part, file_offset, NULL) < 0) {
            memset(buffer, 0, part);
            vx_mutex_lock(&patient->lock);
            add_bad_locked(patient, file_offset, part);
            vx_mutex_unlock(&patient->lock);
        }
        buffer += part;
        length -= part;
        file_offset += part;
    }
}

static void
read_buffer(struct patient *patient, uint8_t *buffer, size_t length, uint64_t file_offset)
{
    size_t there = file_offset < patient->source_length
                       ? (size_t)vx_min_u64(length, patient->source_length - file_offset) : 0;

    memset(buffer + there, 0, length - there);
    if (there > 0 && vx_storage_read(patient->source, buffer, there, file_offset, NULL) < 0)
        read_sectors(patient, buffer, there, file_offset);
}

static int
read_vector(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
            struct vhdx_error *err)
{
    struct patient *patient = patient_of(storage);
    uint64_t        end = file_offset;

    (void)err;
    for (int i = 0; i < vector_count; i++)
        if (!vx_add_u64(end, vector[i].iov_len, &end))
            end = UINT64_MAX;
    if (end <= patient->source_length
        && patient->source->methods->readv(patient->source, vector, vector_count, file_offset, NULL) == VHDX_OK)
        return VHDX_OK;
    for (int i = 0; i < vector_count; i++) {
        read_buffer(patient, vector[i].iov_base, vector[i].iov_len, file_offset);
        file_offset += vector[i].iov_len;
    }
    return VHDX_OK;
}

static int
get_size(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err)
{
    (void)err;
    *out = patient_of(storage)->length;
    return VHDX_OK;
}

/* Where the host cannot tell, all is data. */
static int
next_data(struct vhdx_storage *storage, uint64_t file_offset, uint64_t *start, uint64_t *end, struct vhdx_error *err)
{
    struct patient *patient = patient_of(storage);
    uint64_t        limit = vx_min_u64(patient->source_length, patient->length);

    (void)err;
    *start = *end = patient->length;
    if (file_offset >= limit)
        return VHDX_OK;
    if (vx_storage_next_data(patient->source, file_offset, start, end, NULL) < 0) {
        *start = file_offset;
        *end = limit;
    }
    if (*start >= limit || *start == *end)
        *start = *end = patient->length;
    *end = vx_min_u64(*end, patient->length);
    return VHDX_OK;
}

static void
close_patient(struct vhdx_storage *storage)
{
    struct patient *patient = patient_of(storage);

    vx_mutex_destroy(&patient->lock);
    vx_free(patient->bad);
    vx_free(patient);
}

/* The rest is never called: the trait says read-only. */
static const struct vhdx_storage_methods patient_methods = {
    .readv = read_vector,
    .get_size = get_size,
    .next_data = next_data,
    .close = close_patient,
};

int
vx_patient_new(struct vhdx_storage **out, struct vhdx_storage *source, struct vhdx_error *err)
{
    struct patient *patient = vx_alloc_zeroed(1, sizeof *patient);
    int             rc;

    if (patient == NULL)
        return vx_fail_memory(err, "salvaging");
    rc = vx_storage_get_size(source, &patient->source_length, err);
    if (rc == VHDX_OK && vx_mutex_init(&patient->lock, VX_RANK_STORAGE) != 0)
        rc = vx_fail_memory(err, "salvaging");
    if (rc < 0) {
        vx_free(patient);
        return rc;
    }
    patient->storage.methods = &patient_methods;
    patient->storage.traits = (struct vhdx_storage_traits){ .is_read_only = true,
                                                            .atomic_unit = source->traits.atomic_unit };
    patient->storage.name = source->name;
    patient->storage.identity = source->identity;
    patient->source = source;
    patient->length = vx_min_u64(vx_round_up(patient->source_length, VX_MIB), VX_SALVAGE_FILE_LIMIT);
    *out = &patient->storage;
    return VHDX_OK;
}

uint64_t
vx_patient_source_length(const struct vhdx_storage *patient)
{
    return ((const struct patient *)patient)->source_length;
}

bool
vx_patient_is_whole(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, uint64_t *bad_offset,
                    uint64_t *bad_end)
{
    struct patient *patient = patient_of(storage);
    bool            is_whole = true;

    vx_mutex_lock(&patient->lock);
    if (patient->forgot_some && length > 0) {
        *bad_offset = file_offset;
        *bad_end = file_offset + length;
        is_whole = false;
    }
    for (size_t i = 0; i < patient->bad_count && !patient->forgot_some; i++) {
        const struct vx_reserved_range *bad = &patient->bad[i];

        if (!vx_ranges_overlap(bad->file_offset, bad->length, file_offset, length))
            continue;
        if (is_whole || bad->file_offset < *bad_offset) {
            *bad_offset = vx_max_u64(bad->file_offset, file_offset);
            *bad_end = vx_min_u64(bad->file_offset + bad->length, file_offset + length);
        }
        is_whole = false;
    }
    vx_mutex_unlock(&patient->lock);
    return is_whole;
}

uint64_t
vx_patient_bad_bytes(struct vhdx_storage *storage)
{
    struct patient *patient = patient_of(storage);
    uint64_t        sum = 0;

    vx_mutex_lock(&patient->lock);
    for (size_t i = 0; i < patient->bad_count; i++)
        sum += patient->bad[i].length;
    vx_mutex_unlock(&patient->lock);
    return sum;
}
