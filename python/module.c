/* The module vhdx._vhdx.  Single-phase: one interpreter, as all that keeps state in C. */
#include "module.h"

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_vhdx",
    .m_size = -1,
    .m_methods = job_methods,
};

PyMODINIT_FUNC PyInit__vhdx(void);

PyMODINIT_FUNC
PyInit__vhdx(void)
{
    PyObject *module = PyModule_Create(&definition), *type, *codes;

    if (module == NULL)
        return NULL;
    type = disk_make_type(module);
    codes = error_codes();
    if (type == NULL || codes == NULL || PyModule_AddObjectRef(module, "Disk", type) < 0
        || PyModule_AddObjectRef(module, "CODES", codes) < 0
        || PyModule_AddStringConstant(module, "VERSION", vhdx_version()) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    Py_DECREF(codes);
    return module; /* the type stays: disk_open makes objects of it */
}
