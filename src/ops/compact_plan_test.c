/* Where blocks move: layouts as text, one letter a MiB. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "format/layout.h"
#include "ops/compact_plan.h"

/*
 * "#" is fixed, "." free, "b" a sector bitmap block, and a capital letter a payload block, as many of them as a block has MiB.
 * `after` is what the layout is when all moves were made, cut at its end.
 */
struct plan_case {
    const char *about;
    unsigned    block_mibs;
    const char *before, *after;
    unsigned    moves;
};

static const struct plan_case cases[] = {
    { "nothing to do", 1, "##ABC", "##ABC", 0 },
    { "an empty image", 2, "####", "####", 0 },
    { "one hole in the middle", 1, "##A.B", "##AB", 1 },
    { "two from the end, in order from the end", 1, "##..AB", "##BA", 2 },
    { "only as many as the end asks for", 1, "##A...BCD", "##ADCB", 3 },
    { "live data ahead of the end stays", 1, "##.ABCDE", "##EABCD", 1 },
    { "a hole too small for a block", 2, "##.AABB", "##.AABB", 0 },
    { "two such holes are no place either", 2, "##.AA.BB", "##.AA.BB", 0 },
    { "a bitmap fills the gap", 2, "##.AAb", "##bAA", 1 },
    { "blocks go before bitmaps", 2, "##...AAb", "##AAb", 2 },
    { "what a move leaves is not given to another", 2, "##....AAbBB", "##BBAA..b", 2 },
    { "but the next round gives it", 2, "##BBAA..b", "##BBAAb", 1 },
    { "a block that reaches over where the file could end", 2, "##..b.AA", "##AAb", 1 },
    { "a region at the end holds all", 1, "#..A.#", "#..A.#", 0 },
    { "what lies past the last region moves before it", 1, "#..A.#BC", "#CBA.#", 2 },
    { "nothing moves in vain: the last one finds no place", 4, "#..bb..AAAA", "#..bb..AAAA", 0 },
    { "no further than the one that found no place", 2, "#.b.AA.b.BB", "#.b.AA.b.BB", 0 },
};

static uint64_t
run_length(const struct plan_case *c, size_t at)
{
    return c->before[at] == '#' || c->before[at] == 'b' ? 1 : c->block_mibs;
}

static void
mark_all(struct vx_compact_plan *plan, const struct plan_case *c)
{
    for (size_t at = 0; at < strlen(c->before); at += c->before[at] == '.' ? 1 : (size_t)run_length(c, at)) {
        if (c->before[at] == '#')
            assert_int_equal(vx_plan_mark_fixed(plan, at * VX_MIB, VX_MIB, NULL), VHDX_OK);
        else if (c->before[at] != '.')
            assert_int_equal(vx_plan_mark(plan, at * VX_MIB, run_length(c, at) * VX_MIB, NULL), VHDX_OK);
    }
}

static void
offer_all(struct vx_compact_plan *plan, const struct plan_case *c)
{
    for (size_t at = 0; at < strlen(c->before); at += c->before[at] == '.' ? 1 : (size_t)run_length(c, at)) {
        if (c->before[at] != '#' && c->before[at] != '.')
            assert_int_equal(vx_plan_offer(plan, c->before[at] == 'b', at, at * VX_MIB, NULL), VHDX_OK);
    }
}

/* Carry the moves out on the text; J1: into free space, never over each other, towards the front. */
static void
move_text(char *text, const struct vx_compact_plan *plan, const struct plan_case *c)
{
    for (size_t i = 0; i < plan->count; i++) {
        const struct vx_planned_move *move = &plan->moves[i];
        size_t n = move->is_bitmap ? 1 : c->block_mibs;

        assert_true(move->to + n * VX_MIB <= move->from);
        assert_int_equal(move->index, move->from / VX_MIB);
        for (size_t k = 0; k < n; k++) {
            assert_int_equal(text[move->to / VX_MIB + k], '.');
            text[move->to / VX_MIB + k] = text[move->from / VX_MIB + k];
        }
        memset(text + move->from / VX_MIB, ',', n); /* free, but not for others */
    }
    for (size_t i = strlen(text); i > 0 && (text[i - 1] == '.' || text[i - 1] == ','); i--)
        text[i - 1] = '\0';
    for (char *at = text; *at != '\0'; at++) {
        if (*at == ',')
            *at = '.';
    }
}

static void
finds_places(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct plan_case *c = &cases[i];
        struct vx_compact_plan  plan;
        char                    text[64];

        strcpy(text, c->before);
        vx_plan_init(&plan, (uint32_t)(c->block_mibs * VX_MIB));
        mark_all(&plan, c);
        offer_all(&plan, c);
        vx_plan_solve(&plan);
        move_text(text, &plan, c);
        if (strcmp(text, c->after) != 0 || plan.count != c->moves || plan.end != strlen(c->after) * VX_MIB)
            fail_msg("%s: \"%s\", %zu moves, end %llu", c->about, text, plan.count,
                     (unsigned long long)(plan.end / VX_MIB));
        vx_plan_destroy(&plan);
    }
}

/* The places that the moves of one round leave are free in the next: the two rounds of the table above, in one call. */
static void
counts_rounds(void **state)
{
    static const struct plan_case c = { .before = "##....AAbBB", .block_mibs = 2 };
    struct vx_compact_plan plan;

    (void)state;
    vx_plan_init(&plan, (uint32_t)(c.block_mibs * VX_MIB));
    mark_all(&plan, &c);
    offer_all(&plan, &c);
    assert_int_equal(vx_plan_count_rounds(&plan), 3);
    assert_int_equal(plan.bytes / VX_MIB, 5);
    assert_int_equal(plan.end / VX_MIB, 7);
    vx_plan_destroy(&plan);
}

/* A word of the map at a time is passed over where it is full. */
static void
passes_over_full_stretches(void **state)
{
    struct vx_compact_plan plan;

    (void)state;
    for (uint64_t hole = 1; hole < 300; hole++) {
        vx_plan_init(&plan, VX_MIB);
        assert_int_equal(vx_plan_mark_fixed(&plan, 0, VX_MIB, NULL), VHDX_OK);
        for (uint64_t mib = 1; mib <= 300; mib++) {
            if (mib != hole)
                assert_int_equal(vx_plan_mark(&plan, mib * VX_MIB, VX_MIB, NULL), VHDX_OK);
        }
        assert_int_equal(vx_plan_offer(&plan, false, 7, 300 * VX_MIB, NULL), VHDX_OK);
        vx_plan_solve(&plan);
        assert_int_equal(plan.count, 1);
        assert_int_equal(plan.moves[0].to / VX_MIB, hole);
        assert_int_equal(plan.end / VX_MIB, 300);
        vx_plan_destroy(&plan);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_places),
        cmocka_unit_test(counts_rounds),
        cmocka_unit_test(passes_over_full_stretches),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
