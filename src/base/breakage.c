/* The one breakage that is switched on; only in builds for tests. */
#include "base/breakage.h"

#ifdef VHDX_TEST_HOOKS
enum vx_breakage vx_breakage_for_tests = VX_BREAK_NONE;
#endif
