/*
 * Repair: what a check found is mended by rule, class by class.  repair.c steers; each class has its file.
 *
 *   P1  A step follows from what is there.  Where only a guess would help, the step is told as left.
 *   P2  Each class begins with a check of the file as the classes before it left it, and does what that check says.
 *   P3  A step is told before it is written; a loss with its place on the disk.
 *   P4  Before the first byte of a repair both headers carry a new FileWriteGuid; before the first one that a guest could
 *       notice, a new DataWriteGuid.  The log is empty before anything it could write is changed.
 *   P5  Every write either lies in one sector, or goes where nothing that is believed lies; what it rests on is durable before
 *       it.  So a power cut leaves the old state or the new one, step by step, and the log is not needed (it may be what is
 *       broken).  Where two copies have to change together the image is opened as any writer would, and the log is used.
 *   P6  Space is not given back in the run that has given up what lay there: whoever wants to look for it can.
 *   P7  A plan is the same code over a scratch storage: only the bytes of blocks are not copied.
 */
#ifndef VX_REPAIR_H
#define VX_REPAIR_H

#include <stdbool.h>
#include <stdint.h>

#include <vhdx/repair.h>

#include "ops/check.h"

struct vx_repair {
    struct vhdx_storage        *storage;
    unsigned                    classes;
    bool                        is_plan;      /* over a scratch storage (P7) */
    bool                        has_begun, has_new_data_guid; /* P4 */
    bool                        has_losses;   /* of contents, told in this run */
    void (*tell)(void *context, const struct vhdx_repair_step *step); /* may be NULL */
    void                       *context;
    const struct vhdx_progress *progress;
    struct vhdx_repair_result  *result;
};

/* A look at the file as it is now: a check, and how bad each rule is broken. */
struct vx_look {
    struct vx_check           *check;
    struct vhdx_check_summary  summary;
    enum vhdx_severity         worst[VX_CHECK_RULE_COUNT]; /* NONE: not broken */
};
int  vx_repair_look(struct vx_repair *repair, bool ignore_log, struct vx_look *look, struct vhdx_error *err);
void vx_repair_look_away(struct vx_look *look);

static inline bool
vx_look_has(const struct vx_look *look, int rule)
{
    return look->worst[rule] != VHDX_SEVERITY_NONE;
}

static inline bool
vx_repair_wants(const struct vx_repair *repair, enum vhdx_remedy remedy)
{
    return (repair->classes & VHDX_REPAIR_CLASS(remedy)) != 0;
}

/* Tell a step (P3).  Its class is the rule's remedy unless given; message as printf has it. */
struct vx_step {
    int      rule;
    enum vhdx_remedy remedy;
    bool     is_left, is_loss;
    uint64_t file_offset;
    uint64_t guest_offset, guest_length;
};
void vx_repair_tell(struct vx_repair *repair, const struct vx_step *step, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* P4.  Call it before every write; it does something once, or twice when contents begin to change. */
int vx_repair_begin(struct vx_repair *repair, bool changes_contents, struct vhdx_error *err);

/* The current header as it lies; rules as of vx_header_choose. */
int vx_repair_read_header(struct vx_repair *repair, struct vx_header *header, int *index, struct vhdx_error *err);
/* Both copies, `index` being the current one, each with a flush (H1 to H4). */
int vx_repair_put_headers(struct vx_repair *repair, const struct vx_header *next, int index, struct vhdx_error *err);

/* A log that cannot lie where the header says (V17, V18, V20 to V22) is none. */
bool vx_repair_drops_log(const struct vx_look *look);

/* May the classes that write in place run?  The header, an empty log and sound regions are what they rest on. */
bool vx_repair_may_write(const struct vx_look *look);

/* Open the image as any writer would; *image NULL when something speaks against it.  Close it with vx_image_close. */
struct vx_image;
int vx_repair_open_image(struct vx_repair *repair, bool changes_contents, struct vx_image **image, struct vhdx_error *err);

/* The classes, in the order of the table in repair.c. */
int vx_repair_headers(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err);
int vx_repair_log(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err);
int vx_repair_regions(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err);
int vx_repair_region_flags(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err);
int vx_repair_metadata(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err);
int vx_repair_metadata_table(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err);
int vx_repair_bat(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err);
int vx_repair_leaks(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err);

#endif
