/* Errors as exceptions.  The Python half says which class an error becomes. */
#include "module.h"

#include <errno.h>
#include <string.h>

static PyObject *error_maker; /* one interpreter: the module says so (module.c) */

PyObject *
error_set_maker(PyObject *module, PyObject *maker)
{
    (void)module;
    Py_XDECREF(error_maker);
    Py_INCREF(maker);
    error_maker = maker;
    Py_RETURN_NONE;
}

/* A place that is not known is None. */
static PyObject *
offset_of(const struct vhdx_error *err)
{
    if (err->file_offset == VHDX_NO_OFFSET)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(err->file_offset);
}

PyObject *
error_as_tuple(const struct vhdx_error *err)
{
    const char *part = err->part == VHDX_PART_NONE ? NULL : vhdx_part_name(err->part);
    const char *severity = err->severity == VHDX_SEVERITY_NONE ? NULL : vhdx_severity_name(err->severity);
    const char *message = err->message[0] != '\0' ? err->message : vhdx_code_text(err->code);
    PyObject *text = PyUnicode_DecodeUTF8(message, (Py_ssize_t)strlen(message), "backslashreplace");

    if (text == NULL)
        return NULL;
    return Py_BuildValue("(siNzziN)", vhdx_code_name(err->code),
                         err->system_errno != 0 ? err->system_errno : vhdx_code_errno(err->code), text, part, severity,
                         err->rule, offset_of(err));
}

PyObject *
error_raise(const struct vhdx_error *err)
{
    PyObject *fields = error_as_tuple(err), *exception;

    if (fields == NULL)
        return NULL;
    exception = PyObject_CallObject(error_maker, fields);
    Py_DECREF(fields);
    if (exception != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return NULL;
}

PyObject *
error_codes(void)
{
    static const struct {
        const char *name, *text;
        int         system_errno;
    } codes[] = {
#define VHDX_ERROR(name, value, system_errno, text) { #name, text, system_errno },
#include <vhdx/error_codes.def>
#undef VHDX_ERROR
    };
    Py_ssize_t count = (Py_ssize_t)(sizeof codes / sizeof codes[0]);
    PyObject *list = PyTuple_New(count);

    for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
        PyObject *row = Py_BuildValue("(sis)", codes[i].name, codes[i].system_errno, codes[i].text);

        if (row == NULL || PyTuple_SetItem(list, i, row) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}
