/* convert --in-place: another type for an image, without a copy. */
#ifndef VHDX_TOOL_IN_PLACE_H
#define VHDX_TOOL_IN_PLACE_H

#include "options.h"

/* Judge what the options say together, do it, tell about it.  Returns the exit status. */
int in_place_run(const struct option_reader *reader, const struct shared_options *shared, const char *path, bool dry_run);

#endif
