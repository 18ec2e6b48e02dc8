/* Work in a confined child (sandbox_call). */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox_parts.h"

static void
send_all(int descriptor, const void *from, size_t length)
{
    const uint8_t *next = from;

    while (length > 0) {
        ssize_t n = write(descriptor, next, length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        next += n;
        length -= (size_t)n;
    }
}

static bool
receive_all(int descriptor, void *to, size_t length)
{
    uint8_t *next = to;

    while (length > 0) {
        ssize_t n = read(descriptor, next, length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        next += n;
        length -= (size_t)n;
    }
    return true;
}

static _Noreturn void
be_child(int descriptor, const struct sandbox_list *list, int (*work)(void *, struct vhdx_error *), void *context)
{
    struct vhdx_error err = { .file_offset = VHDX_NO_OFFSET };
    int rc = sandbox_enter(list, NULL, &err);

    if (rc == VHDX_OK)
        rc = work(context, &err);
    err.code = rc;
    send_all(descriptor, &err, sizeof err);
    _exit(0);
}

/* What a child says that a hostile image may have taken over is believed as far as it can do no harm. */
static int
judge_answer(struct vhdx_error *answer)
{
    answer->message[sizeof answer->message - 1] = '\0';
    for (char *c = answer->message; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    }
    return answer->code > 0 ? VHDX_E_IO : answer->code;
}

static int
wait_for(pid_t child)
{
    int status;

    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            return 0;
    }
    return status;
}

int
sandbox_call(const struct sandbox_list *list, int (*work)(void *context, struct vhdx_error *err), void *context,
             struct vhdx_error *err)
{
    struct vhdx_error answer = { .file_offset = VHDX_NO_OFFSET };
    int ends[2], status;
    bool is_answered;
    pid_t child;

    if (pipe(ends) < 0)
        return sandbox_fail(err, errno, "pipe");
    child = fork();
    if (child == 0) {
        close(ends[0]);
        be_child(ends[1], list, work, context);
    }
    close(ends[1]);
    is_answered = child > 0 && receive_all(ends[0], &answer, sizeof answer);
    close(ends[0]);
    if (child < 0)
        return sandbox_fail(err, errno, "fork");
    status = wait_for(child);
    if (!is_answered) {
        answer = (struct vhdx_error){ .file_offset = VHDX_NO_OFFSET };
        answer.code = VHDX_E_IO;
        snprintf(answer.message, sizeof answer.message,
                 "the confined process that looked at the image ended early (%s %d)",
                 WIFSIGNALED(status) ? "signal" : "status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    answer.code = judge_answer(&answer);
    if (err != NULL)
        *err = answer;
    return answer.code;
}
