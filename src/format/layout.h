/* The fixed places and sizes of a VHDX file (docs/vhdx-format.md 1.1, 7). */
#ifndef VX_LAYOUT_H
#define VX_LAYOUT_H

#include "base/checked.h"

#define VX_IDENTIFIER_SIZE    (64 * 1024u) /* the slot at file offset 0 */
#define VX_HEADER_SIZE        4096u
#define VX_HEADER_SLOT_SIZE   (64 * 1024u)
#define VX_HEADER_OFFSET(i)   (UINT64_C(0x10000) * ((uint64_t)(i) + 1)) /* copy 0 or 1 */
#define VX_REGION_TABLE_SIZE  (64 * 1024u)
#define VX_REGION_TABLE_OFFSET(i) (UINT64_C(0x30000) + UINT64_C(0x10000) * (uint64_t)(i)) /* copy 0 or 1 */
#define VX_HEADER_SECTION_SIZE VX_MIB
#define VX_LOGGED_FROM        UINT64_C(0x30000) /* E12: nothing below is ever logged */

#define VX_METADATA_TABLE_SIZE (64 * 1024u)
#define VX_SECTOR_BITMAP_SIZE  VX_MIB
#define VX_SECTORS_PER_CHUNK   (UINT64_C(1) << 23)

#define VX_MAX_VIRTUAL_SIZE (UINT64_C(64) * VX_TIB)
#define VX_MIN_BLOCK_SIZE   VX_MIB
#define VX_MAX_BLOCK_SIZE   (UINT64_C(256) * VX_MIB)
#define VX_MAX_LOG_LENGTH   VX_GIB
#define VX_MAX_FILE_SIZE    (UINT64_C(256) * VX_TIB) /* a policy bound: V45 */

#endif
