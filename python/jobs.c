/* Jobs over files. */
#include "module.h"

#include <string.h>

/* --- create --- */

static PyObject *
create(PyObject *module, PyObject *arguments)
{
    struct vhdx_create_options options = { .creator = NULL };
    struct vhdx_parents_options parents = { .mode = VHDX_PARENTS_NONE };
    unsigned long long size, log_size;
    const char *path, *parent, *guid, *which;
    int type, preallocation, may_overwrite, rc;
    PyObject *maps, *on_progress;
    struct vhdx_error err;
    Py_ssize_t guid_length;
    struct job job;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "yyKiIIIKy#ipyO!O", &path, &parent, &size, &type, &options.block_size,
                          &options.logical_sector_size, &options.physical_sector_size, &log_size, &guid, &guid_length,
                          &preallocation, &may_overwrite, &which, &PyTuple_Type, &maps, &on_progress))
        return NULL;
    options.virtual_size = size;
    options.log_size = log_size;
    options.type = (enum vhdx_image_type)type;
    options.preallocation = (enum vhdx_preallocation)preallocation;
    if (guid_length == (Py_ssize_t)sizeof options.disk_id.bytes)
        memcpy(options.disk_id.bytes, guid, sizeof options.disk_id.bytes);
    if (parents_take(&parents, which, maps) < 0)
        return NULL;
    job_begin(&job, on_progress, Py_None);
    Py_BEGIN_ALLOW_THREADS
    rc = parent[0] != '\0' ? vhdx_create_child_path(path, may_overwrite != 0, parent, &options, &parents, &err)
                        : vhdx_create_path(path, may_overwrite != 0, &options, &job.progress, &err);
    Py_END_ALLOW_THREADS
    vhdx_parents_options_free(&parents);
    Py_INCREF(Py_None);
    return job_end(&job, rc, &err, Py_None);
}

/* --- check --- */

struct check_job {
    struct job job;
    PyObject  *take; /* gets the tuple of each finding */
};

static void
take_finding(void *context, const struct vhdx_error *finding)
{
    struct check_job *check = context;
    PyGILState_STATE state = PyGILState_Ensure();

    if (check->job.exception_type == NULL) {
        PyObject *fields = error_as_tuple(finding);
        PyObject *answer = fields == NULL ? NULL : PyObject_CallObject(check->take, fields);

        Py_XDECREF(fields);
        Py_XDECREF(answer);
        if (answer == NULL)
            job_keep_exception(&check->job);
    }
    PyGILState_Release(state);
}

static int
run_check(struct check_job *check, const char *path, bool shares, bool ignores_log, struct vhdx_check_summary *summary,
          struct vhdx_error *err)
{
    struct vhdx_check_options options = { .ignore_log = ignores_log };
    struct vhdx_storage *storage;
    int rc = vhdx_storage_open_path(&storage, path, shares ? VHDX_STORAGE_FORCE_SHARE : 0, err);

    if (rc < 0)
        return rc;
    rc = vhdx_check_storage(storage, &options, take_finding, check, &check->job.progress, summary, err);
    vhdx_storage_close(storage);
    return rc;
}

static PyObject *
check(PyObject *module, PyObject *arguments)
{
    struct vhdx_check_summary summary = { .file_size = 0 };
    struct check_job check = { .take = NULL };
    int shares, ignores_log, rc;
    PyObject *on_progress;
    struct vhdx_error err;
    const char *path;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "yppOO", &path, &shares, &ignores_log, &check.take, &on_progress))
        return NULL;
    job_begin(&check.job, on_progress, Py_None);
    Py_BEGIN_ALLOW_THREADS
    rc = run_check(&check, path, shares != 0, ignores_log != 0, &summary, &err);
    Py_END_ALLOW_THREADS
    return job_end(&check.job, rc, &err,
                   Py_BuildValue("(KKKKKNN)", (unsigned long long)summary.leaked_bytes,
                                 (unsigned long long)summary.allocated_blocks, (unsigned long long)summary.total_blocks,
                                 (unsigned long long)summary.file_size, (unsigned long long)summary.virtual_size,
                                 PyBool_FromLong(summary.is_dirty), PyBool_FromLong(summary.is_complete)));
}

/* --- space --- */

/* What only a searching compact needs. */
struct compact_help {
    struct vhdx_layout_options layout;
    struct vhdx_free_search    search;
    struct vhdx_free_ranges    ranges;
};

static PyObject *
compact(PyObject *module, PyObject *arguments)
{
    struct compact_help help = { .search = { .layout = &help.layout }, .ranges = { vhdx_find_free_ranges, &help.search } };
    struct vhdx_parents_options parents = { .mode = VHDX_PARENTS_NONE };
    struct vhdx_compact_options options = { .parents = &parents };
    struct vhdx_compact_result result = { .is_dirty = false };
    int zeroes, searches, sparse, dry_run, orphan_children, rc;
    PyObject *maps, *on_line, *on_progress;
    const char *path, *which;
    struct vhdx_error err;
    struct job job;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "ypppppyO!OO", &path, &zeroes, &searches, &sparse, &dry_run, &orphan_children, &which,
                          &PyTuple_Type, &maps, &on_line, &on_progress)
        || parents_take(&parents, which, maps) < 0)
        return NULL;
    options.free_ranges = searches ? &help.ranges : NULL;
    options.zeroes = zeroes != 0;
    options.sparse = sparse != 0;
    options.dry_run = dry_run != 0;
    options.orphan_children = orphan_children != 0;
    job_begin(&job, on_progress, on_line);
    Py_BEGIN_ALLOW_THREADS
    rc = vhdx_compact_path(path, &options, job_say, &job, &job.progress, &result, &err);
    Py_END_ALLOW_THREADS
    vhdx_parents_options_free(&parents);
    return job_end(&job, rc, &err,
                   Py_BuildValue("(KKKKKK)", (unsigned long long)result.file_size_before,
                                 (unsigned long long)result.file_size_after, (unsigned long long)result.bytes_released,
                                 (unsigned long long)result.blocks_freed, (unsigned long long)result.blocks_moved,
                                 (unsigned long long)result.guest_bytes_free));
}

static PyObject *
resize(PyObject *module, PyObject *arguments)
{
    struct vhdx_parents_options parents = { .mode = VHDX_PARENTS_NONE };
    struct vhdx_resize_options options = { .parents = &parents };
    struct vhdx_resize_result result = { .is_dirty = false };
    PyObject *maps, *on_line, *on_progress;
    unsigned long long new_size;
    const char *path, *which;
    struct vhdx_error err;
    int dry_run, rc;
    struct job job;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "yKpyO!OO", &path, &new_size, &dry_run, &which, &PyTuple_Type, &maps, &on_line,
                          &on_progress)
        || parents_take(&parents, which, maps) < 0)
        return NULL;
    options.dry_run = dry_run != 0;
    job_begin(&job, on_progress, on_line);
    Py_BEGIN_ALLOW_THREADS
    rc = vhdx_resize_path(path, new_size, &options, job_say, &job, &job.progress, &result, &err);
    Py_END_ALLOW_THREADS
    vhdx_parents_options_free(&parents);
    return job_end(&job, rc, &err,
                   Py_BuildValue("(KK)", (unsigned long long)result.old_size, (unsigned long long)result.new_size));
}

/* --- chains --- */

static PyObject *
merge(PyObject *module, PyObject *arguments)
{
    struct vhdx_parents_options parents = { .mode = VHDX_PARENTS_NONE };
    struct vhdx_chain_options options = { .parents = &parents };
    struct vhdx_chain_result result = { .bytes_copied = 0 };
    int orphan_siblings, deletes, dry_run, rc;
    PyObject *maps, *on_line, *on_progress;
    const char *path, *into, *which;
    struct vhdx_error err;
    struct job job;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "yypppyO!OO", &path, &into, &orphan_siblings, &deletes, &dry_run, &which, &PyTuple_Type,
                          &maps, &on_line, &on_progress)
        || parents_take(&parents, which, maps) < 0)
        return NULL;
    options.orphan_siblings = orphan_siblings != 0;
    options.delete_merged = deletes != 0;
    options.dry_run = dry_run != 0;
    job_begin(&job, on_progress, on_line);
    Py_BEGIN_ALLOW_THREADS
    rc = vhdx_merge_path(path, into[0] != '\0' ? into : NULL, &options, job_say, &job, &job.progress, &result, &err);
    Py_END_ALLOW_THREADS
    vhdx_parents_options_free(&parents);
    return job_end(&job, rc, &err,
                   Py_BuildValue("(KKI)", (unsigned long long)result.bytes_copied,
                                 (unsigned long long)result.blocks_changed, result.images_relinked));
}

/* --- copy, replay --- */

static PyObject *
copy(PyObject *module, PyObject *arguments)
{
    struct vhdx_copy_options options = { .thread_count = 0 };
    PyObject *from_object, *to_object, *on_progress;
    struct vhdx_disk *source, *target;
    struct vhdx_error err;
    int detects_zeros, rc;
    struct job job;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "OOIpO", &from_object, &to_object, &options.thread_count, &detects_zeros, &on_progress)
        || (source = disk_enter_job(from_object)) == NULL)
        return NULL;
    target = disk_enter_job(to_object);
    if (target == NULL) {
        disk_leave_job(from_object);
        return NULL;
    }
    options.detect_zeros = detects_zeros != 0;
    job_begin(&job, on_progress, Py_None);
    Py_BEGIN_ALLOW_THREADS
    rc = vhdx_copy(source, target, &options, &job.progress, &err);
    Py_END_ALLOW_THREADS
    disk_leave_job(to_object);
    disk_leave_job(from_object);
    Py_INCREF(Py_None);
    return job_end(&job, rc, &err, Py_None);
}

static PyObject *
replay(PyObject *module, PyObject *arguments)
{
    struct vhdx_error err;
    const char *path;
    bool was_dirty;
    int rc;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "y", &path))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    rc = vhdx_replay_path(path, &was_dirty, &err);
    Py_END_ALLOW_THREADS
    return rc < 0 ? error_raise(&err) : PyBool_FromLong(was_dirty);
}

PyMethodDef job_methods[] = {
    { "set_error_maker", error_set_maker, METH_O, NULL },
    { "open", disk_open, METH_VARARGS, NULL },
    { "create", create, METH_VARARGS, NULL },
    { "check", check, METH_VARARGS, NULL },
    { "compact", compact, METH_VARARGS, NULL },
    { "resize", resize, METH_VARARGS, NULL },
    { "merge", merge, METH_VARARGS, NULL },
    { "copy", copy, METH_VARARGS, NULL },
    { "replay", replay, METH_VARARGS, NULL },
    { NULL, NULL, 0, NULL },
};
