/* Every cell of the tables 4.3, 4.4 and 4.5 of docs/vhdx-format.md, written out a second time and compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "format/block_state.h"

/* 4.3.  z zeros, f this file, p the parent, b by the bitmap, e error. */
static void
reading(void **state)
{
    static const char letters[] = "zfpbe"; /* in the order of enum vx_read_source */
    static const char without_parent[] = "zzzzeeff";
    static const char differencing[] = "pzzzeefb";
    unsigned s;

    (void)state;
    for (s = 0; s < 8; s++) {
        assert_int_equal(letters[vx_block_read_source((uint8_t)s, false)], without_parent[s]);
        assert_int_equal(letters[vx_block_read_source((uint8_t)s, true)], differencing[s]);
    }
    assert_int_equal(vx_block_read_source(8, false), VX_READ_ERROR);
    assert_int_equal(vx_block_read_source(255, true), VX_READ_ERROR);
}

/*
 * 4.4 in words of one letter: a allocate, f fill with zeros, b set bits, c clear the slice, u the parent was
 * visible; then the new state.  "e": error.
 */
static void
describe_write(char text[8], struct vx_write_step step)
{
    char *p = text;

    if (step.is_error) {
        *p++ = 'e';
    } else {
        if (step.allocate)
            *p++ = 'a';
        if (step.fill_zeros)
            *p++ = 'f';
        if (step.set_bits)
            *p++ = 'b';
        if (step.clear_slice)
            *p++ = 'c';
        if (step.uncovers_parent_if_torn)
            *p++ = 'u';
        *p++ = (char)('0' + step.new_state);
    }
    *p = '\0';
}

static void
writing(void **state)
{
    static const struct {
        unsigned    state;
        const char *plain_whole, *plain_part, *differencing_whole, *differencing_part;
    } rows[] = {
        { 6, "6", "6", "6", "6" },          { 7, "6", "6", "u6", "bu7" },
        { 0, "a6", "af6", "au6", "abcu7" }, { 1, "a6", "af6", "a6", "af6" },
        { 2, "a6", "af6", "a6", "af6" },    { 3, "a6", "af6", "a6", "af6" },
        { 4, "e", "e", "e", "e" },          { 5, "e", "e", "e", "e" },
        { 8, "e", "e", "e", "e" },
    };
    char text[8];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t s = (uint8_t)rows[i].state;

        describe_write(text, vx_block_write_step(s, false, true));
        assert_string_equal(text, rows[i].plain_whole);
        describe_write(text, vx_block_write_step(s, false, false));
        assert_string_equal(text, rows[i].plain_part);
        describe_write(text, vx_block_write_step(s, true, true));
        assert_string_equal(text, rows[i].differencing_whole);
        describe_write(text, vx_block_write_step(s, true, false));
        assert_string_equal(text, rows[i].differencing_part);
    }
}

/* 4.5: "-" no change; else the new state, and "!" when the space goes.  "e": error. */
static void
describe_discard(char text[8], uint8_t old_state, struct vx_discard_step step)
{
    char *p = text;

    if (step.is_error) {
        *p++ = 'e';
    } else if (!step.is_change) {
        *p++ = step.new_state == old_state && !step.free_space ? '-' : '?';
    } else {
        *p++ = (char)('0' + step.new_state);
        if (step.free_space)
            *p++ = '!';
    }
    *p = '\0';
}

static void
discarding(void **state)
{
    static const enum vx_discard_intent intents[4] = {
        VX_DISCARD_UNMAP, VX_DISCARD_ZERO, VX_DISCARD_TRANSPARENT, VX_DISCARD_DROP_ANCHOR,
    };
    static const struct {
        unsigned    state;
        const char *steps[4];
    } rows[] = {
        { 6, { "3!", "2!", "0!", "-" } }, { 7, { "3!", "2!", "0!", "-" } }, { 0, { "-", "2", "-", "-" } },
        { 1, { "-", "2!", "0!", "1!" } }, { 2, { "-", "-", "0", "-" } },    { 3, { "-", "2!", "0!", "3!" } },
        { 4, { "e", "e", "e", "e" } },    { 5, { "e", "e", "e", "e" } },    { 9, { "e", "e", "e", "e" } },
    };
    char text[8];
    size_t i, j;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (j = 0; j < 4; j++) {
            uint8_t s = (uint8_t)rows[i].state;

            describe_discard(text, s, vx_block_discard_step(s, intents[j]));
            assert_string_equal(text, rows[i].steps[j]);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading),
        cmocka_unit_test(writing),
        cmocka_unit_test(discarding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
