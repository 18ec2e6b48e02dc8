/*
 * See free_space.h.
 *
 * A file system whose module is not installed is refused, not left alone as fs.h would: it is a fault of this host's that one
 * package mends, and whoever compacts an ext4 wants to hear that nothing of it will be won, before anything is written and
 * with a status that a script sees.  What nobody reads anywhere (XFS, LUKS, ...) is left alone and said.
 */
#include "free_space.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "message.h"
#include "readers.h"
#include "sizes.h"
#include "text.h"

static const struct vhdx_fs_reader *readers[MAX_READERS];
static struct vhdx_layout_options layout_options = { .readers = readers };

/* The libraries behind the modules promise nothing about threads: one disk at a time. */
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

void
free_space_load(void)
{
    layout_options.reader_count = load_readers(readers);
}

static void
note_layout(struct free_space *space, const struct vhdx_layout *layout)
{
    size_t count = vhdx_layout_volume_count(layout);

    space->was_searched = true;
    space->table = vhdx_layout_get_info(layout)->table;
    space->volumes = need_memory(calloc(count + 1, sizeof(*space->volumes)));
    for (size_t i = 0; i < count; i++)
        space->volumes[i] = *vhdx_layout_volume(layout, i);
    space->volume_count = count;
}

static const char *
name_place(char *out, size_t size, const struct vhdx_volume *volume)
{
    if (volume->number == 0)
        snprintf(out, size, "the whole disk");
    else
        snprintf(out, size, "partition %u", volume->number);
    return out;
}

static int
judge(void *context, const struct vhdx_layout *layout, struct vhdx_error *err)
{
    struct free_space *space = context;
    char place[40];

    note_layout(space, layout);
    for (size_t i = 0; i < space->volume_count; i++) {
        const struct vhdx_volume *volume = &space->volumes[i];

        if (readers_lack(volume))
            return fail(err, VHDX_E_UNSUPPORTED, "%s (%s): %s: %s", name_place(place, sizeof(place), volume),
                        volume->kind, volume->reason, volume->cure);
    }
    return VHDX_OK;
}

static int
find(void *context, struct vhdx_disk *disk, vhdx_free_range take, void *take_context, struct vhdx_error *err)
{
    struct free_space *space = context;
    int rc;

    pthread_mutex_lock(&one_at_a_time);
    rc = vhdx_find_free_ranges(&space->search, disk, take, take_context, err);
    pthread_mutex_unlock(&one_at_a_time);
    return rc;
}

void
free_space_begin(struct free_space *space)
{
    *space = (struct free_space){
        .ranges = { .find = find, .context = space },
        .search = { .layout = &layout_options, .judge = judge, .context = space },
    };
}

void
free_space_end(struct free_space *space)
{
    free(space->volumes);
    space->volumes = NULL;
    space->volume_count = 0;
}

static void
print_volume(const struct vhdx_volume *volume)
{
    char place[40], size[SIZE_TEXT_SIZE], all[SIZE_TEXT_SIZE];

    printf("  %s, ", name_place(place, sizeof(place), volume));
    text_print(stdout, volume->kind);
    if (volume->label[0] != '\0') {
        fputs(" \"", stdout);
        text_print(stdout, volume->label);
        fputs("\"", stdout);
    }
    if (volume->verdict == VHDX_VERDICT_READABLE) {
        printf(": %s of %s free\n", size_short(size, volume->free_bytes), size_short(all, volume->length));
        return;
    }
    printf(": %s, ", volume->verdict == VHDX_VERDICT_REFUSED ? "refused" : "left alone");
    text_print(stdout, volume->reason);
    if (volume->cure[0] != '\0') {
        fputs("; ", stdout);
        text_print(stdout, volume->cure);
    }
    putchar('\n');
}

void
free_space_print(const struct free_space *space)
{
    for (size_t i = 0; i < space->volume_count; i++)
        print_volume(&space->volumes[i]);
}

static struct json_object *
make_volume(const struct vhdx_volume *volume)
{
    struct json_object *object = need_memory(json_object_new_object());

    json_add_number(object, "partition", volume->number);
    json_add_number(object, "start", volume->guest_offset);
    json_add_number(object, "length", volume->length);
    json_add_text(object, "kind", volume->kind);
    json_add_text(object, "label", volume->label);
    json_add_text(object, "verdict", vhdx_verdict_name(volume->verdict));
    if (volume->verdict == VHDX_VERDICT_READABLE) {
        json_add_number(object, "free-bytes", volume->free_bytes);
    } else {
        json_add_text(object, "reason", volume->reason);
        json_add_text(object, "cure", volume->cure);
    }
    return object;
}

void
free_space_add_json(const struct free_space *space, struct json_object *document)
{
    struct json_object *volumes;

    if (!space->was_searched)
        return;
    json_add_text(document, "partition-table", vhdx_partition_table_name(space->table));
    volumes = need_memory(json_object_new_array());
    for (size_t i = 0; i < space->volume_count; i++)
        json_object_array_add(volumes, make_volume(&space->volumes[i]));
    json_object_object_add(document, "volumes", volumes);
}
