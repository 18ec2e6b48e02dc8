/*
 * A child and its parent, both mutated: two ways to open the chain show the same, a program on it behaves, and after merging
 * or flattening one file alone shows what both did.
 */
#include "image.h"
#include "program.h"

#include "ops/flatten.h"
#include "ops/merge.h"
#include "ops/stack.h"

const unsigned fuzz_image_count = 2;

static uint8_t stacked[FUZZ_WINDOWS * FUZZ_WINDOW], resolved[FUZZ_WINDOWS * FUZZ_WINDOW];

/* As guests see it, and as jobs do. */
static void
look_through_disk(struct fuzz_program *program, const struct fuzz_view *view, int stacked_rc)
{
    struct vhdx_error err = { .code = 0 };
    struct vhdx_disk *disk;
    struct vhdx_info info;
    int rc = fuzz_open_disk(&disk, program->storages, program->count, 0, &err);

    if (rc < 0) { /* the parent wants one itself */
        MUST(err.code == rc && err.message[0] != '\0');
        return;
    }
    for (unsigned depth = 0; depth < vhdx_disk_layer_count(disk); depth++)
        MUST(vhdx_disk_get_info(disk, depth, &info, NULL) == VHDX_OK);
    MUST(fuzz_view_read(view, disk, resolved) == stacked_rc);
    MUST(memcmp(stacked, resolved, view->total) == 0);
    MUST(vhdx_disk_close(disk, NULL) == VHDX_OK);
}

static void
look_at_chain(struct fuzz_program *program, struct fuzz_input input)
{
    struct vx_stack *stack;
    struct fuzz_view view;

    if (vx_stack_open(&stack, program->storages, program->count, NULL, 0, NULL) < 0)
        return;
    fuzz_view_init(&view, &input, vhdx_disk_size(&stack->disk),
                   vx_image_geometry(stack->disk.layers[0].image)->block_size);
    look_through_disk(program, &view, fuzz_view_read(&view, &stack->disk, stacked));
    vx_stack_close(stack, NULL);
}

/* Afterwards the parent alone shows all; a chain that was refused shows what it did. */
static void
merge(struct fuzz_program *program)
{
    const struct vx_merge job = { .storages = program->storages, .count = 2 };
    struct vhdx_chain_result result;
    struct fuzz_verdict verdict;
    struct vx_merge_plan plan;

    fuzz_check(&verdict, program->storages[1], false);
    if (verdict.worst >= VHDX_SEVERITY_RO || vx_merge_judge(&job, &plan, NULL) < 0)
        return;
    program->guards[0].may_write = program->guards[1].may_write = true;
    if (vx_merge_carry_out(&job, &plan, &result, NULL) < 0)
        return;
    fuzz_check_is_no_worse(&verdict, program->storages[1]);
    fuzz_program_compare(program, &program->storages[1], 1);
}

static void
flatten(struct fuzz_program *program)
{
    struct vhdx_chain_result result;
    struct vx_stack *parent;
    int rc;

    if (vx_stack_open(&parent, &program->storages[1], 1, NULL, 0, NULL) < 0)
        return;
    program->guards[0].may_write = true;
    rc = vx_flatten(&(struct vx_flatten){ .storage = program->storages[0], .parent = &parent->disk }, &result, NULL);
    vx_stack_close(parent, NULL);
    fuzz_program_compare(program, program->storages, rc == VHDX_OK ? 1 : 2);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = { data, size };
    struct vhdx_storage *memories[2];
    struct fuzz_program program;
    uint64_t how;

    memories[0] = fuzz_take_image(&input, FUZZ_CHILD);
    memories[1] = fuzz_take_image(&input, FUZZ_PARENT);
    how = fuzz_take(&input, 1);
    fuzz_program_init(&program, memories, 2);
    look_at_chain(&program, input);
    if (program.count == 2 && fuzz_program_begin(&program, &input)) {
        fuzz_program_run(&program, &input);
        if (how % 3 == 1)
            merge(&program);
        if (how % 3 == 2)
            flatten(&program);
    }
    fuzz_program_destroy(&program);
    return 0;
}
