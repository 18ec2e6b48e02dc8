/*
 * The filter of calls (S3): a table of what is forbidden, turned into a program for seccomp.
 *
 * What is not in the table is allowed.  A list of what is allowed would be stricter, and would break with the next
 * version of a C library, of nbdkit or of one of its filters; this one names what lets a process reach beyond
 * itself. A call that this machine's headers do not know is left out: build with recent ones.
 */
#include "sandbox_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __linux__

/* AUDIT_ARCH_*: the number of the machine in ELF, 64-bit, little-endian. */
#define IS_64     0x80000000u
#define IS_LITTLE 0x40000000u
#if defined(__x86_64__)
#define ARCHITECTURE (62u | IS_64 | IS_LITTLE)
#elif defined(__i386__)
#define ARCHITECTURE (3u | IS_LITTLE)
#elif defined(__aarch64__) && defined(__AARCH64EL__)
#define ARCHITECTURE (183u | IS_64 | IS_LITTLE)
#elif defined(__arm__) && defined(__ARMEL__)
#define ARCHITECTURE (40u | IS_LITTLE)
#elif defined(__s390x__)
#define ARCHITECTURE (22u | IS_64)
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define ARCHITECTURE (21u | IS_64 | IS_LITTLE)
#elif defined(__powerpc64__)
#define ARCHITECTURE (21u | IS_64)
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCHITECTURE (243u | IS_64 | IS_LITTLE)
#elif defined(__loongarch__) && __loongarch_grlen == 64
#define ARCHITECTURE (258u | IS_64 | IS_LITTLE)
#endif
#endif

#ifdef ARCHITECTURE

/* As <linux/seccomp.h> and <linux/filter.h> have them; those headers are not everywhere. */
#define SET_MODE_FILTER    1u
#define GET_ACTION_AVAIL   2u
#define FILTER_FLAG_TSYNC  1u
#define RETURN_ALLOW       0x7fff0000u
#define RETURN_ERRNO(code) (0x00050000u | (unsigned)(code))

struct instruction {
    uint16_t code;
    uint8_t  if_true, if_false; /* how many to skip */
    uint32_t value;
};

struct program {
    unsigned short      length;
    struct instruction *code;
};

#define LOAD      0x20 /* a word of what the kernel tells of the call */
#define RETURN    0x06
#define IF_EQUAL  0x15
#define IF_LEAST  0x35
#define IF_ANY_OF 0x45 /* bits */

#define AT_NUMBER       0u
#define AT_ARCHITECTURE 4u
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define AT_ARGUMENT(n) (16u + 8u * (n) + 4u) /* its lower half */
#else
#define AT_ARGUMENT(n) (16u + 8u * (n))
#endif

#if defined(__s390__)
#define CLONE_FLAGS_ARGUMENT 1u
#else
#define CLONE_FLAGS_ARGUMENT 0u
#endif
#define THREAD_FLAG 0x10000u /* CLONE_THREAD */

#define MUST_NOT_OPEN ((uint32_t)(O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))

enum treatment {
    FORBIDDEN,
    UNKNOWN,          /* ENOSYS: the C library then does it another way, which is seen here */
    SELF_ONLY,        /* argument 0 must be this process */
    THREADS_ONLY,     /* clone: another thread, no process, no namespace */
    OPEN_1_READS,     /* flags are argument 1: nothing is written or made */
    OPEN_2_READS,     /* flags are argument 2 */
    NO_NEW_SOCKETS,   /* socketcall: argument 0 says what; above 4 are the calls of sockets that are there */
    NO_TYPING         /* ioctl: not into the terminal, as if the user did */
};

/* From which step a row counts. */
enum when {
    ALWAYS,
    UNLESS_CHANGE, /* names are not changed */
    UNLESS_WRITE,  /* nothing is opened for writing */
    UNLESS_READ,   /* nothing is opened */
    UNLESS_REMOVE  /* nothing is removed */
};

struct row {
    int            number;
    enum treatment treatment;
    enum when      when;
};

#define CALL(name) { SYS_##name, FORBIDDEN, ALWAYS }

/* Calls without an #ifdef have been on every architecture for long. */
static const struct row rows[] = {
    /* other programs, other processes */
    CALL(execve),
    CALL(ptrace),
#ifdef SYS_execveat
    CALL(execveat),
#endif
#ifdef SYS_fork
    CALL(fork),
#endif
#ifdef SYS_vfork
    CALL(vfork),
#endif
    { SYS_clone, THREADS_ONLY, ALWAYS },
#ifdef SYS_clone3
    { SYS_clone3, UNKNOWN, ALWAYS },
#endif
    { SYS_kill, SELF_ONLY, ALWAYS },
    { SYS_tgkill, SELF_ONLY, ALWAYS },
    { SYS_tkill, SELF_ONLY, ALWAYS }, /* raise() of musl: in the main thread, which is where signals arrive */
    CALL(rt_sigqueueinfo),
#ifdef SYS_rt_tgsigqueueinfo
    { SYS_rt_tgsigqueueinfo, SELF_ONLY, ALWAYS },
#endif
#ifdef SYS_pidfd_open
    CALL(pidfd_open),
#endif
#ifdef SYS_pidfd_send_signal
    CALL(pidfd_send_signal),
#endif
#ifdef SYS_pidfd_getfd
    CALL(pidfd_getfd),
#endif
#ifdef SYS_process_vm_readv
    CALL(process_vm_readv),
    CALL(process_vm_writev),
#endif
#ifdef SYS_process_madvise
    CALL(process_madvise),
#endif
#ifdef SYS_kcmp
    CALL(kcmp),
#endif

    /* sockets that are not there yet */
#ifdef SYS_socket
    CALL(socket),
    CALL(bind),
    CALL(connect),
    CALL(listen),
#endif
#ifdef SYS_socketcall
    { SYS_socketcall, NO_NEW_SOCKETS, ALWAYS },
#endif
    { SYS_ioctl, NO_TYPING, ALWAYS },

    /* what files and the machine are */
    CALL(mount),
    CALL(umount2),
#ifdef SYS_umount
    CALL(umount),
#endif
    CALL(chroot),
    CALL(pivot_root),
    CALL(unshare),
#ifdef SYS_setns
    CALL(setns),
#endif
#ifdef SYS_fsopen
    CALL(fsopen),
    CALL(fspick),
    CALL(fsconfig),
    CALL(fsmount),
    CALL(move_mount),
    CALL(open_tree),
#endif
#ifdef SYS_mount_setattr
    CALL(mount_setattr),
#endif
#ifdef SYS_open_tree_attr
    CALL(open_tree_attr),
#endif
    CALL(swapon),
    CALL(swapoff),
    CALL(reboot),
    CALL(sethostname),
    CALL(setdomainname),
#ifdef SYS_settimeofday
    CALL(settimeofday),
#endif
#ifdef SYS_stime
    CALL(stime),
#endif
#ifdef SYS_clock_settime
    CALL(clock_settime),
#endif
#ifdef SYS_clock_settime64
    CALL(clock_settime64),
#endif
    CALL(adjtimex),
    CALL(acct),
    CALL(quotactl),
#ifdef SYS_quotactl_fd
    CALL(quotactl_fd),
#endif
    CALL(init_module),
    CALL(delete_module),
#ifdef SYS_finit_module
    CALL(finit_module),
#endif
#ifdef SYS_kexec_load
    CALL(kexec_load),
#endif
#ifdef SYS_kexec_file_load
    CALL(kexec_file_load),
#endif
#ifdef SYS_iopl
    CALL(iopl),
    CALL(ioperm),
#endif
    CALL(personality),

    /* doors of the kernel that are rarely used, and often the way in; io_uring would pass by this filter */
#ifdef SYS_io_uring_setup
    CALL(io_uring_setup),
    CALL(io_uring_enter),
    CALL(io_uring_register),
#endif
#ifdef SYS_bpf
    CALL(bpf),
#endif
#ifdef SYS_perf_event_open
    CALL(perf_event_open),
#endif
#ifdef SYS_userfaultfd
    CALL(userfaultfd),
#endif
    CALL(add_key),
    CALL(request_key),
    CALL(keyctl),
#ifdef SYS_fanotify_init
    CALL(fanotify_init),
#endif
    CALL(inotify_add_watch),
#ifdef SYS_open_by_handle_at
    CALL(open_by_handle_at),
#endif

    /* attributes by name: Landlock looks at contents and names only */
#ifdef SYS_chmod
    CALL(chmod),
    CALL(chown),
    CALL(lchown),
#endif
#ifdef SYS_chown32
    CALL(chown32),
    CALL(lchown32),
#endif
#ifdef SYS_utime
    CALL(utime),
#endif
#ifdef SYS_utimes
    CALL(utimes),
#endif
#ifdef SYS_futimesat
    CALL(futimesat),
#endif
    CALL(fchmodat),
    CALL(fchownat),
#ifdef SYS_fchmodat2
    CALL(fchmodat2),
#endif
#ifdef SYS_utimensat
    CALL(utimensat),
#endif
#ifdef SYS_utimensat_time64
    CALL(utimensat_time64),
#endif
    CALL(setxattr),
    CALL(lsetxattr),
    CALL(removexattr),
    CALL(lremovexattr),
#ifdef SYS_setxattrat
    CALL(setxattrat),
    CALL(removexattrat),
#endif
#ifdef SYS_file_setattr
    CALL(file_setattr),
#endif

    /* names */
#ifdef SYS_mknod
    CALL(mknod),
#endif
    CALL(mknodat),
#ifdef SYS_symlink
    CALL(symlink),
#endif
    CALL(symlinkat),
#ifdef SYS_mkdir
    CALL(mkdir),
#endif
    CALL(mkdirat),
#ifdef SYS_link
    { SYS_link, FORBIDDEN, UNLESS_CHANGE },
    { SYS_rename, FORBIDDEN, UNLESS_CHANGE },
#endif
    { SYS_linkat, FORBIDDEN, UNLESS_CHANGE },
#ifdef SYS_renameat
    { SYS_renameat, FORBIDDEN, UNLESS_CHANGE },
#endif
#ifdef SYS_renameat2
    { SYS_renameat2, FORBIDDEN, UNLESS_CHANGE },
#endif
#ifdef SYS_unlink
    { SYS_unlink, FORBIDDEN, UNLESS_REMOVE },
    { SYS_rmdir, FORBIDDEN, UNLESS_REMOVE },
#endif
    { SYS_unlinkat, FORBIDDEN, UNLESS_REMOVE },

    /* opening; the stricter row stands first */
#ifdef SYS_open
    { SYS_open, FORBIDDEN, UNLESS_READ },
    { SYS_open, OPEN_1_READS, UNLESS_WRITE },
#endif
    { SYS_openat, FORBIDDEN, UNLESS_READ },
    { SYS_openat, OPEN_2_READS, UNLESS_WRITE },
#ifdef SYS_openat2
    { SYS_openat2, UNKNOWN, UNLESS_WRITE },
#endif
#ifdef SYS_creat
    { SYS_creat, FORBIDDEN, UNLESS_WRITE },
#endif
    { SYS_truncate, FORBIDDEN, UNLESS_WRITE },
#ifdef SYS_truncate64
    { SYS_truncate64, FORBIDDEN, UNLESS_WRITE },
#endif
#ifdef SYS_uselib
    CALL(uselib),
#endif
};

#define ROW_COUNT          (sizeof rows / sizeof rows[0])
#define INSTRUCTIONS_A_ROW 5
#define INSTRUCTIONS_MAX   (ROW_COUNT * INSTRUCTIONS_A_ROW + 8)

static void
add(struct program *program, unsigned code, uint32_t value, unsigned if_true, unsigned if_false)
{
    program->code[program->length++] = (struct instruction){
        .code = (uint16_t)code, .if_true = (uint8_t)if_true, .if_false = (uint8_t)if_false, .value = value,
    };
}

static void
answer(struct program *program, uint32_t with)
{
    add(program, RETURN, with, 0, 0);
}

/* Allow what satisfies the test, or (`allows` is false) what does not. */
static void
test_argument(struct program *program, unsigned argument, unsigned test, uint32_t value, bool allows)
{
    add(program, LOAD, AT_ARGUMENT(argument), 0, 0);
    add(program, test, value, allows ? 1 : 0, allows ? 0 : 1);
    answer(program, RETURN_ERRNO(EPERM));
    answer(program, RETURN_ALLOW);
}

static void
refuse_typing(struct program *program)
{
    add(program, LOAD, AT_ARGUMENT(1), 0, 0);
    add(program, IF_EQUAL, 0x5412, 1, 0); /* TIOCSTI */
    add(program, IF_EQUAL, 0x541C, 0, 1); /* TIOCLINUX, which pastes */
    answer(program, RETURN_ERRNO(EPERM));
    answer(program, RETURN_ALLOW);
}

/* What is done about one call; every way through it answers. */
static void
add_treatment(struct program *program, enum treatment treatment)
{
    switch (treatment) {
    case FORBIDDEN:
        answer(program, RETURN_ERRNO(EPERM));
        break;
    case UNKNOWN:
        answer(program, RETURN_ERRNO(ENOSYS));
        break;
    case SELF_ONLY:
        test_argument(program, 0, IF_EQUAL, (uint32_t)getpid(), true);
        break;
    case THREADS_ONLY:
        test_argument(program, CLONE_FLAGS_ARGUMENT, IF_ANY_OF, THREAD_FLAG, true);
        break;
    case OPEN_1_READS:
        test_argument(program, 1, IF_ANY_OF, MUST_NOT_OPEN, false);
        break;
    case OPEN_2_READS:
        test_argument(program, 2, IF_ANY_OF, MUST_NOT_OPEN, false);
        break;
    case NO_NEW_SOCKETS:
        test_argument(program, 0, IF_LEAST, 5, true);
        break;
    case NO_TYPING:
        refuse_typing(program);
        break;
    }
}

static bool
counts(enum when when, enum sandbox_names names, bool may_remove)
{
    switch (when) {
    case UNLESS_CHANGE:
        return names < SANDBOX_NAMES_CHANGE;
    case UNLESS_WRITE:
        return names < SANDBOX_NAMES_WRITE;
    case UNLESS_READ:
        return names < SANDBOX_NAMES_READ;
    case UNLESS_REMOVE:
        return names < SANDBOX_NAMES_CHANGE && !may_remove;
    default:
        return true;
    }
}

static void
add_row(struct program *program, const struct row *row)
{
    unsigned short test = program->length;

    add(program, IF_EQUAL, (uint32_t)row->number, 0, 0);
    add_treatment(program, row->treatment);
    program->code[test].if_false = (uint8_t)(program->length - test - 1);
}

/* Calls by the numbers of another architecture that the kernel serves beside ours would pass the table by. */
static void
build(struct program *program, enum sandbox_names names, bool may_remove)
{
    add(program, LOAD, AT_ARCHITECTURE, 0, 0);
    add(program, IF_EQUAL, ARCHITECTURE, 1, 0);
    answer(program, RETURN_ERRNO(EPERM));
    add(program, LOAD, AT_NUMBER, 0, 0);
#if defined(__x86_64__) && !defined(__ILP32__)
    add(program, IF_LEAST, 0x40000000, 0, 1); /* x32 */
    answer(program, RETURN_ERRNO(EPERM));
#endif
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (counts(rows[i].when, names, may_remove))
            add_row(program, &rows[i]);
    }
    answer(program, RETURN_ALLOW);
}

bool
sandbox_can_filter(void)
{
    static const uint32_t action = RETURN_ERRNO(0);

    return syscall(SYS_seccomp, GET_ACTION_AVAIL, 0u, &action) == 0;
}

int
sandbox_filter(enum sandbox_names names, bool may_remove, struct vhdx_error *err)
{
    struct program program = { .code = calloc(INSTRUCTIONS_MAX + 1, sizeof *program.code) };
    long installed;
    int rc = VHDX_OK;

    if (program.code == NULL)
        return sandbox_fail(err, ENOMEM, "seccomp");
    build(&program, names, may_remove);
    installed = syscall(SYS_seccomp, SET_MODE_FILTER, FILTER_FLAG_TSYNC, &program);
    if (installed != 0) /* positive: a thread that has a filter of its own */
        rc = sandbox_fail(err, installed > 0 ? EBUSY : errno, "seccomp");
    free(program.code);
    return rc;
}

#else

bool
sandbox_can_filter(void)
{
    return false;
}

int
sandbox_filter(enum sandbox_names names, bool may_remove, struct vhdx_error *err)
{
    (void)names;
    (void)may_remove;
    (void)err;
    return VHDX_OK;
}

#endif
