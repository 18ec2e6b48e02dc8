/* The version, as the build names it. */
#include <vhdx/disk.h>

const char *
vhdx_version(void)
{
    return VHDX_VERSION;
}
