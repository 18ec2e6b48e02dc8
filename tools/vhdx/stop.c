/* See stop.h. */
#include "stop.h"

#include <signal.h>
#include <stddef.h>
#include <stdio.h>

static volatile sig_atomic_t asked_by; /* 0: nobody */

static void
note_signal(int signal_number)
{
    asked_by = signal_number;
}

void
stop_watch(void)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction action = { .sa_handler = note_signal, .sa_flags = (int)SA_RESETHAND | SA_RESTART };

    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        struct sigaction old;

        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    }
}

bool
stop_is_asked(void)
{
    return asked_by != 0;
}

void
stop_obey(void)
{
    if (asked_by == 0)
        return;
    fflush(stdout);
    raise(asked_by); /* SA_RESETHAND: nobody catches it any more */
}
