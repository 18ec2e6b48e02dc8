/* libvhdx: read, write, create and check Hyper-V VHDX disks.  This header brings all of the interface. */
#ifndef VHDX_VHDX_H
#define VHDX_VHDX_H

#include <vhdx/chain.h>
#include <vhdx/disk.h>
#include <vhdx/error.h>
#include <vhdx/fs.h>
#include <vhdx/guid.h>
#include <vhdx/inspect.h>
#include <vhdx/metadata.h>
#include <vhdx/ops.h>
#include <vhdx/parents.h>
#include <vhdx/repair.h>
#include <vhdx/rules.h>
#include <vhdx/salvage.h>
#include <vhdx/space.h>
#include <vhdx/storage.h>

#endif
