/*
 * Breakages: each row of docs/durability.md section "The oracle bites" can be switched on in a test build, one at a
 * time, to prove that the crash tests notice.  In every other build VX_BROKEN(x) is the constant 0 and no code
 * remains.
 */
#ifndef VX_BREAKAGE_H
#define VX_BREAKAGE_H

enum vx_breakage {
    VX_BREAK_NONE,
    VX_BREAK_LOG_GUID_FIRST,          /* 1: LogGuid published before the first entry is durable */
    VX_BREAK_EARLY_ANSWER,            /* 2a: guest flush answered before the entry's flush */
    VX_BREAK_LATE_FOLLOWER,           /* 2b: a follower from after the gather is answered by the running commit */
    VX_BREAK_APPLY_EARLY,             /* 3: pages applied before the entry is durable */
    VX_BREAK_TAIL_WITHOUT_FLUSH,      /* 4a: the tail passes applied pages that no flush covered */
    VX_BREAK_ENTRY_OVER_TAIL,         /* 4b: an entry is written over [durable tail, head) */
    VX_BREAK_FREE_AT_ONCE,            /* 5a: freed space is given out at once */
    VX_BREAK_FREE_AT_GATHER,          /* 5b: ... at gather */
    VX_BREAK_ONE_FLUSH_ON_USED,       /* 6a: one flush over used space */
    VX_BREAK_NO_FILL,                 /* 6b: used space is not filled with zeros */
    VX_BREAK_TAIL_AT_OPEN_IS_FRESH,   /* 6c: the file's tail found at open is taken as fresh */
    VX_BREAK_FLUSHED_IS_CURRENT,      /* 7a: FlushedFileOffset = the current length */
    VX_BREAK_REPLAY_NO_EXTEND,        /* 7b: replay does not extend to LastFileOffset */
    VX_BREAK_CLOSE_NO_FLUSH,          /* 8a: close clears LogGuid without flushing the applied pages first */
    VX_BREAK_REPLAY_NO_FLUSH,         /* 8b: replay clears LogGuid without flushing the pages first */
    VX_BREAK_HEADERS_ONE_FLUSH,       /* 8c: both header copies written under one flush */
    VX_BREAK_FLUSH_ERROR_IGNORED,     /* 9a: a failed flush is taken for success */
    VX_BREAK_CLOSE_AFTER_FAILURE,     /* 9b: close updates the headers of a FAILED image */
    VX_BREAK_FLUSH_BEFORE_GATHER,     /* 10a: the payload flush happens before the gather */
    VX_BREAK_FLAG_RESET_LATE,         /* 10b: the one-or-two flag is reset at the end of the commit */
    VX_BREAK_APPLY_LIVE,              /* 10c: pages are applied from the live cache */
    VX_BREAK_COMMIT_IN_PIECES,        /* 11: one entry per page */
    VX_BREAK_TAKE_BACK_IN_QUARANTINE, /* 12: space taken back by its owner stays on the waiting list */
    VX_BREAK_REPLAY_NO_FIRST_FLUSH,   /* 13: replay writes pages before any flush */
    VX_BREAK_PUNCHED_IS_FRESH,        /* 14a: just-punched space is taken as fresh */
    VX_BREAK_REGROWN_IS_FRESH,        /* 14b: cut-and-regrown space is taken as fresh */
    VX_BREAK_BITMAP_REUSE_EARLY,      /* 15a: bitmap space is reused under R1 alone */
    VX_BREAK_REPLAY_FROM_OLDEST,      /* 15b: replay starts at the oldest entry found */
    VX_BREAK_COUNT
};

#ifdef VHDX_TEST_HOOKS
extern enum vx_breakage vx_breakage_for_tests;
#define VX_BROKEN(name) (vx_breakage_for_tests == VX_BREAK_##name)
#else
#define VX_BROKEN(name) 0
#endif

#endif
