/* Long calls: progress and lines to Python, Ctrl-C, and what callbacks raise. */
#include "module.h"

#include <string.h>

void
job_keep_exception(struct job *job)
{
    if (job->exception_type == NULL)
        PyErr_Fetch(&job->exception_type, &job->exception, &job->exception_trace);
    else
        PyErr_Clear();
}

/* With the GIL.  True cancels. */
static bool
ask(struct job *job, uint64_t done, uint64_t total)
{
    PyObject *answer;
    int is_true;

    if (PyErr_CheckSignals() < 0)
        return true;
    if (job->on_progress == Py_None)
        return false;
    answer = PyObject_CallFunction(job->on_progress, "KK", (unsigned long long)done, (unsigned long long)total);
    if (answer == NULL)
        return true;
    is_true = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    return is_true != 0; /* -1: an exception */
}

static int
report(void *context, uint64_t done, uint64_t total)
{
    struct job *job = context;
    PyGILState_STATE state = PyGILState_Ensure();
    bool is_cancelled = job->exception_type != NULL || ask(job, done, total);

    if (PyErr_Occurred() != NULL)
        job_keep_exception(job);
    PyGILState_Release(state);
    return is_cancelled ? 1 : 0;
}

void
job_say(void *context, const char *line)
{
    struct job *job = context;
    PyGILState_STATE state = PyGILState_Ensure();

    if (job->on_line != Py_None && job->exception_type == NULL) {
        PyObject *text = PyUnicode_DecodeUTF8(line, (Py_ssize_t)strlen(line), "backslashreplace");
        PyObject *answer = text == NULL ? NULL : PyObject_CallFunctionObjArgs(job->on_line, text, NULL);

        Py_XDECREF(text);
        Py_XDECREF(answer);
        if (answer == NULL)
            job_keep_exception(job);
    }
    PyGILState_Release(state);
}

void
job_begin(struct job *job, PyObject *on_progress, PyObject *on_line)
{
    *job = (struct job){ .on_progress = on_progress, .on_line = on_line, .progress = { .report = report, .context = job } };
}

PyObject *
job_end(struct job *job, int rc, const struct vhdx_error *err, PyObject *result)
{
    if (job->exception_type != NULL) {
        Py_XDECREF(result);
        PyErr_Restore(job->exception_type, job->exception, job->exception_trace);
        return NULL;
    }
    if (rc < 0) {
        Py_XDECREF(result);
        return error_raise(err);
    }
    return result;
}
