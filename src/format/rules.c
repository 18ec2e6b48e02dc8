/* The table of rules: rules.def, found by number. */
#include <stddef.h>

#include <vhdx/rules.h>

static const struct vhdx_rule rules[VHDX_RULE_COUNT] = {
#define VX_RULE(number, part, title, meaning, remedy) \
    [number] = { number, VHDX_PART_##part, title, meaning, VHDX_REMEDY_##remedy },
#include "format/rules.def"
#undef VX_RULE
};

const struct vhdx_rule *
vhdx_rule_get(int number)
{
    if (number <= 0 || number >= VHDX_RULE_COUNT || rules[number].number == 0)
        return NULL;
    return &rules[number];
}

/* A place no log can have (V17 to V22): while the log is empty the headers are mended, else the log is what is lost. */
enum vhdx_remedy
vhdx_finding_remedy(const struct vhdx_error *finding)
{
    const struct vhdx_rule *rule = vhdx_rule_get(finding->rule);

    if (rule == NULL)
        return VHDX_REMEDY_NONE;
    if (rule->number >= 17 && rule->number <= 22 && finding->severity == VHDX_SEVERITY_REFUSE)
        return VHDX_REMEDY_LOG;
    return rule->remedy;
}

const char *
vhdx_remedy_name(enum vhdx_remedy remedy)
{
    static const char *const names[] = {
        [VHDX_REMEDY_NONE] = "none",         [VHDX_REMEDY_HEADERS] = "headers",   [VHDX_REMEDY_REGIONS] = "regions",
        [VHDX_REMEDY_LOG] = "log",           [VHDX_REMEDY_METADATA] = "metadata", [VHDX_REMEDY_BAT] = "bat",
        [VHDX_REMEDY_LEAKS] = "leaks",       [VHDX_REMEDY_REPLAY] = "replay",     [VHDX_REMEDY_COMPACT] = "compact",
        [VHDX_REMEDY_CONVERT] = "convert",   [VHDX_REMEDY_SALVAGE] = "salvage",   [VHDX_REMEDY_REBASE] = "rebase",
    };

    return (unsigned)remedy < sizeof names / sizeof names[0] ? names[remedy] : "none";
}
