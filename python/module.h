/*
 * The C half of the Python module: calls of the library with the GIL released, buffers without a copy.  What is pleasant to
 * use is in vhdx/__init__.py; nothing here is meant to be called by others.
 *
 *   P1  A file object's disk is used only between disk_enter and disk_leave; close waits for that, or is refused during a job.
 *   P2  While the GIL is released nothing of Python is touched; callbacks take it back (job.c).
 */
#ifndef VHDX_PYTHON_MODULE_H
#define VHDX_PYTHON_MODULE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000 /* 3.11: the first with the buffer protocol */
#include <Python.h>

#include <vhdx/vhdx.h>

/* --- error.c --- */

/* Who makes exceptions of errors: set once by the Python half. */
PyObject *error_set_maker(PyObject *module, PyObject *maker);

/* Raise what the error says; NULL for the caller to return. */
PyObject *error_raise(const struct vhdx_error *err);

/* (code name, errno, text) of every code. */
PyObject *error_codes(void);

/* An error or a finding as a tuple: what the maker and the report of a check take. */
PyObject *error_as_tuple(const struct vhdx_error *err);

/* --- job.c: long calls --- */

/* What a job hands back while it runs.  Callables may be None. */
struct job {
    PyObject            *on_progress; /* (done, total); a true answer cancels */
    PyObject            *on_line;     /* (text) */
    struct vhdx_progress progress;    /* for the library */
    PyObject            *exception_type, *exception, *exception_trace; /* raised in a callback: the job is cancelled */
};
void      job_begin(struct job *job, PyObject *on_progress, PyObject *on_line);
void      job_say(void *job, const char *line); /* a vhdx_say */
PyObject *job_end(struct job *job, int rc, const struct vhdx_error *err, PyObject *result); /* takes `result` */
void      job_keep_exception(struct job *job); /* with the GIL: what was raised ends the job */

/* --- disk.c --- */
struct vhdx_disk *disk_enter(PyObject *object); /* NULL with ValueError when it is closed */
void              disk_leave(PyObject *object);
struct vhdx_disk *disk_enter_job(PyObject *object);
void              disk_leave_job(PyObject *object);
PyObject         *disk_make_type(PyObject *module);
PyObject         *disk_open(PyObject *module, PyObject *arguments);

/* "parents" and "maps" of Python, as the library wants them; NULL maps are none.  0 or -1 with an exception. */
int  parents_take(struct vhdx_parents_options *out, const char *which, PyObject *maps);

/* A tuple of bytes as an array; free with PyMem_Free.  0 or -1 with an exception. */
int  texts_take(const char ***out, size_t *count, PyObject *tuple);

/* --- jobs.c --- */
extern PyMethodDef job_methods[];

#endif
