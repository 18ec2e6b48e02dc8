/* An open disk. */
#include "module.h"

#include <string.h>
#include <time.h>

struct disk_object {
    PyObject_HEAD
    struct vhdx_disk    *disk;       /* NULL once it is closed */
    struct vhdx_parents *parents;    /* the policy its parents were found by */
    unsigned             user_count; /* calls in flight, and */
    unsigned             job_count;  /* of them jobs, which may call back to Python; all three guarded by the GIL (P1) */
    bool                 is_closing;
};

static struct disk_object *
from(PyObject *object)
{
    return (struct disk_object *)(void *)object;
}

struct vhdx_disk *
disk_enter(PyObject *object)
{
    struct disk_object *self = from(object);

    if (self->disk == NULL || self->is_closing) {
        PyErr_SetString(PyExc_ValueError, "the disk is closed");
        return NULL;
    }
    self->user_count++;
    return self->disk;
}

struct vhdx_disk *
disk_enter_job(PyObject *object)
{
    struct vhdx_disk *disk = disk_enter(object);

    if (disk != NULL)
        from(object)->job_count++;
    return disk;
}

void
disk_leave_job(PyObject *object)
{
    from(object)->job_count--;
    disk_leave(object);
}

void
disk_leave(PyObject *object)
{
    from(object)->user_count--;
}

/* --- what several calls take --- */

int
texts_take(const char ***out, size_t *count, PyObject *tuple)
{
    Py_ssize_t size = PyTuple_Size(tuple);

    *out = NULL;
    *count = 0;
    if (size < 0)
        return -1;
    *out = PyMem_Malloc(((size_t)size + 1) * sizeof(**out));
    if (*out == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        (*out)[i] = PyBytes_AsString(PyTuple_GetItem(tuple, i)); /* borrowed: the tuple outlives the call */
        if ((*out)[i] == NULL) {
            PyMem_Free((void *)*out);
            *out = NULL;
            return -1;
        }
    }
    *count = (size_t)size;
    return 0;
}

int
parents_take(struct vhdx_parents_options *out, const char *which, PyObject *maps)
{
    struct vhdx_error err;
    const char **texts;
    size_t count;
    int rc;

    if (texts_take(&texts, &count, maps) < 0)
        return -1;
    rc = vhdx_parents_options_parse(out, which, texts, count, &err);
    PyMem_Free((void *)texts);
    if (rc < 0)
        error_raise(&err);
    return rc < 0 ? -1 : 0;
}

/* --- opening and closing --- */

static PyTypeObject *disk_type;

static PyObject *
new_object(struct vhdx_parents *parents)
{
    struct disk_object *self = PyObject_New(struct disk_object, disk_type);

    if (self != NULL) {
        self->disk = NULL;
        self->parents = parents;
        self->user_count = self->job_count = 0;
        self->is_closing = false;
    }
    return (PyObject *)self;
}

PyObject *
disk_open(PyObject *module, PyObject *arguments)
{
    struct vhdx_open_options options = { .resolve_parent = vhdx_parents_resolve };
    struct vhdx_parents_options found = { .mode = VHDX_PARENTS_NONE };
    struct vhdx_parents *parents;
    struct vhdx_error err;
    unsigned long long cache_bytes;
    const char *path, *which;
    int format, rc;
    PyObject *maps, *object;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "yIiKyO!", &path, &options.flags, &format, &cache_bytes, &which, &PyTuple_Type, &maps))
        return NULL;
    options.format = (enum vhdx_format)format;
    options.metadata_cache_bytes = cache_bytes;
    if (parents_take(&found, which, maps) < 0)
        return NULL;
    rc = vhdx_parents_new(&parents, &found, &err);
    vhdx_parents_options_free(&found);
    if (rc < 0)
        return error_raise(&err);
    object = new_object(parents);
    if (object == NULL) {
        vhdx_parents_free(parents);
        return NULL;
    }
    options.resolve_context = parents;
    Py_BEGIN_ALLOW_THREADS
    rc = vhdx_disk_open_path(&from(object)->disk, path, &options, &err);
    Py_END_ALLOW_THREADS
    if (rc == 0)
        return object;
    from(object)->disk = NULL;
    Py_DECREF(object);
    return error_raise(&err);
}

/* Calls in flight end, no new one begins.  A job is not waited for: it may be our caller. */
static int
wait_for_users(struct disk_object *self)
{
    static const struct timespec moment = { .tv_nsec = 1000000 };

    if (self->job_count > 0) {
        PyErr_SetString(PyExc_ValueError, "a job is using the disk");
        return -1;
    }
    self->is_closing = true;
    while (self->user_count > 0) {
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&moment, NULL);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0) {
            self->is_closing = false;
            return -1;
        }
    }
    return 0;
}

static PyObject *
disk_close(PyObject *object, PyObject *unused)
{
    struct disk_object *self = from(object);
    struct vhdx_disk *disk = self->disk;
    struct vhdx_error err;
    int rc;

    (void)unused;
    if (disk == NULL || self->is_closing)
        Py_RETURN_NONE;
    if (wait_for_users(self) < 0)
        return NULL;
    self->disk = NULL;
    Py_BEGIN_ALLOW_THREADS
    rc = vhdx_disk_close(disk, &err);
    Py_END_ALLOW_THREADS
    if (rc < 0)
        return error_raise(&err);
    Py_RETURN_NONE;
}

static void
disk_dealloc(PyObject *object)
{
    struct disk_object *self = from(object);
    PyTypeObject *type = Py_TYPE(object);

    if (self->disk != NULL)
        vhdx_disk_close(self->disk, NULL);
    vhdx_parents_free(self->parents);
    PyObject_Free(object);
    Py_DECREF(type);
}

/* --- reading and writing --- */

static PyObject *
finish(PyObject *object, int rc, const struct vhdx_error *err)
{
    disk_leave(object);
    if (rc < 0)
        return error_raise(err);
    Py_RETURN_NONE;
}

static PyObject *
transfer(PyObject *object, Py_buffer *buffer, unsigned long long offset, bool is_write)
{
    struct vhdx_disk *disk = disk_enter(object);
    struct vhdx_error err;
    int rc;

    if (disk == NULL) {
        PyBuffer_Release(buffer);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = is_write ? vhdx_disk_write(disk, buffer->buf, (size_t)buffer->len, offset, &err)
                  : vhdx_disk_read(disk, buffer->buf, (size_t)buffer->len, offset, &err);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(buffer);
    return finish(object, rc, &err);
}

static PyObject *
disk_read_into(PyObject *object, PyObject *arguments)
{
    unsigned long long offset;
    Py_buffer buffer;

    if (!PyArg_ParseTuple(arguments, "w*K", &buffer, &offset))
        return NULL;
    return transfer(object, &buffer, offset, false);
}

/* A new bytes object, which nobody sees before it is filled. */
static PyObject *
disk_read(PyObject *object, PyObject *arguments)
{
    unsigned long long offset;
    struct vhdx_disk *disk;
    struct vhdx_error err;
    PyObject *bytes;
    Py_ssize_t length;
    char *memory;
    int rc;

    if (!PyArg_ParseTuple(arguments, "nK", &length, &offset) || (bytes = PyBytes_FromStringAndSize(NULL, length)) == NULL)
        return NULL;
    memory = PyBytes_AsString(bytes);
    disk = disk_enter(object);
    if (disk == NULL) {
        Py_DECREF(bytes);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = vhdx_disk_read(disk, memory, (size_t)length, offset, &err);
    Py_END_ALLOW_THREADS
    disk_leave(object);
    if (rc == 0)
        return bytes;
    Py_DECREF(bytes);
    return error_raise(&err);
}

static PyObject *
disk_write(PyObject *object, PyObject *arguments)
{
    unsigned long long offset;
    Py_buffer buffer;

    if (!PyArg_ParseTuple(arguments, "y*K", &buffer, &offset))
        return NULL;
    return transfer(object, &buffer, offset, true);
}

static PyObject *
disk_zero(PyObject *object, PyObject *arguments)
{
    unsigned long long offset, length;
    struct vhdx_disk *disk;
    struct vhdx_error err;
    int is_trim, rc;

    if (!PyArg_ParseTuple(arguments, "KKp", &offset, &length, &is_trim) || (disk = disk_enter(object)) == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    rc = is_trim ? vhdx_disk_trim(disk, offset, length, &err) : vhdx_disk_zero(disk, offset, length, 0, &err);
    Py_END_ALLOW_THREADS
    return finish(object, rc, &err);
}

static PyObject *
disk_flush(PyObject *object, PyObject *unused)
{
    struct vhdx_disk *disk = disk_enter(object);
    struct vhdx_error err;
    int rc;

    (void)unused;
    if (disk == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    rc = vhdx_disk_flush(disk, &err);
    Py_END_ALLOW_THREADS
    return finish(object, rc, &err);
}

/* --- extents --- */

#define EXTENTS_AT_ONCE 256

/* (offset, length, layer, file offset or None, is zero, is present) */
static PyObject *
make_extent(const struct vhdx_extent *extent)
{
    bool is_data = (extent->flags & VHDX_EXTENT_DATA) != 0;
    PyObject *file_offset = is_data ? PyLong_FromUnsignedLongLong(extent->file_offset) : (Py_INCREF(Py_None), Py_None);

    return Py_BuildValue("(KKINNN)", (unsigned long long)extent->guest_offset, (unsigned long long)extent->length,
                         extent->depth, file_offset, PyBool_FromLong((extent->flags & VHDX_EXTENT_ZERO) != 0),
                         PyBool_FromLong((extent->flags & VHDX_EXTENT_PRESENT) != 0));
}

static PyObject *
make_extents(const struct vhdx_extent *extents, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);

    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *item = make_extent(&extents[i]);

        if (item == NULL || PyList_SetItem(list, (Py_ssize_t)i, item) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

/* As many as fit, from the beginning of the range. */
static PyObject *
disk_extents(PyObject *object, PyObject *arguments)
{
    struct vhdx_extent extents[EXTENTS_AT_ONCE];
    unsigned long long offset, length;
    struct vhdx_disk *disk;
    struct vhdx_error err;
    int is_sparse, rc;
    size_t count;

    if (!PyArg_ParseTuple(arguments, "KKp", &offset, &length, &is_sparse) || (disk = disk_enter(object)) == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    rc = (is_sparse ? vhdx_disk_resolve_sparse : vhdx_disk_resolve)(disk, offset, length, extents, EXTENTS_AT_ONCE, &count,
                                                                    &err);
    Py_END_ALLOW_THREADS
    disk_leave(object);
    return rc < 0 ? error_raise(&err) : make_extents(extents, count);
}

/* --- facts --- */

static PyObject *
disk_size(PyObject *object, PyObject *unused)
{
    struct vhdx_disk *disk = disk_enter(object);

    (void)unused;
    if (disk == NULL)
        return NULL;
    disk_leave(object);
    return PyLong_FromUnsignedLongLong(vhdx_disk_size(disk));
}

static PyObject *
disk_layer_count(PyObject *object, PyObject *unused)
{
    struct vhdx_disk *disk = disk_enter(object);

    (void)unused;
    if (disk == NULL)
        return NULL;
    disk_leave(object);
    return PyLong_FromUnsignedLong(vhdx_disk_layer_count(disk));
}

static PyObject *
guid_text(const struct vhdx_guid *guid)
{
    char text[VHDX_GUID_TEXT_SIZE];

    vhdx_guid_format(text, guid);
    return PyUnicode_FromString(text);
}

/* In the order of the fields of class Info. */
static PyObject *
make_info(const char *name, const struct vhdx_info *info)
{
    static const char *const formats[] = { "auto", "vhdx", "raw" };
    static const char *const types[] = { "dynamic", "fixed", "differencing" };

    return Py_BuildValue("(yssKKIIIONNNNNKsIs)", name, formats[info->format], types[info->type],
                         (unsigned long long)info->virtual_size, (unsigned long long)info->file_size, info->block_size,
                         info->logical_sector_size, info->physical_sector_size, info->is_dirty ? Py_True : Py_False,
                         guid_text(&info->disk_id), guid_text(&info->data_write_guid), guid_text(&info->file_write_guid),
                         guid_text(&info->log_guid), guid_text(&info->parent_linkage),
                         (unsigned long long)info->payload_block_count, info->creator,
                         (unsigned)info->finding_count, info->parent_relative_path);
}

static PyObject *
disk_info(PyObject *object, PyObject *arguments)
{
    struct vhdx_info *info;
    struct vhdx_disk *disk;
    struct vhdx_error err;
    PyObject *result = NULL;
    unsigned depth;
    int rc;

    if (!PyArg_ParseTuple(arguments, "I", &depth) || (disk = disk_enter(object)) == NULL)
        return NULL;
    info = PyMem_Malloc(sizeof *info);
    if (info == NULL) {
        disk_leave(object);
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS
    rc = vhdx_disk_get_info(disk, depth, info, &err);
    Py_END_ALLOW_THREADS
    if (rc == 0)
        result = make_info(vhdx_disk_layer_name(disk, depth), info);
    disk_leave(object);
    PyMem_Free(info);
    return rc < 0 ? error_raise(&err) : result;
}

/* --- the type --- */

static PyMethodDef disk_methods[] = {
    { "close", disk_close, METH_NOARGS, NULL },
    { "read", disk_read, METH_VARARGS, NULL },
    { "read_into", disk_read_into, METH_VARARGS, NULL },
    { "write", disk_write, METH_VARARGS, NULL },
    { "zero", disk_zero, METH_VARARGS, NULL },
    { "flush", disk_flush, METH_NOARGS, NULL },
    { "extents", disk_extents, METH_VARARGS, NULL },
    { "size", disk_size, METH_NOARGS, NULL },
    { "layer_count", disk_layer_count, METH_NOARGS, NULL },
    { "info", disk_info, METH_VARARGS, NULL },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot disk_slots[] = {
    { Py_tp_dealloc, (void *)disk_dealloc },
    { Py_tp_methods, disk_methods },
    { 0, NULL },
};

static PyType_Spec disk_spec = {
    .name = "vhdx._vhdx.Disk",
    .basicsize = sizeof(struct disk_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = disk_slots,
};

PyObject *
disk_make_type(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &disk_spec, NULL);

    disk_type = (PyTypeObject *)(void *)type;
    return type;
}
