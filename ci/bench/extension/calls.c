/* The study of `extension.py`: what `backends/anynet_backends/jit/native_call.ll` does, in C over the headers of Python and NumPy. The
   records are the same, so both run the same plans. */
#define PY_SSIZE_T_CLEAN
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <Python.h>
#include <fenv.h>
#include <numpy/arrayobject.h>

#define MOST 24
#define EXCEPTIONS (FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW)

typedef npy_int64 i64;
typedef struct {
    PyArray_Descr *dtype;
    i64 axes;
    npy_intp lengths[]; /* of arguments: then strides */
} Form;
typedef struct {
    PyArray_Descr *dtype;
    i64 axes;
    npy_intp *shape, *strides;
} NewForm;
typedef struct {
    char **cell;
    i64 array, offset;
} Relocation;
typedef struct Plan {
    struct Plan *next;
    i64 arguments;
    Form **forms;
    void *table;
    i64 rows, relocations;
    Relocation *moves;
    i64 results;
    NewForm *made;
    void *type, *new_array; /* of the other way: here the headers know them */
    void *pull;
    PyObject *back; /* the holder of the plan of the backward pass */
    i64 given;
    i64 *numbers;
    i64 (*run)(void *, i64, i64);
    void *none;
    i64 outputs;
} Plan;

static PyObject *pullback(PyObject *self, PyObject *g);
static PyMethodDef pull_definition = {"pullback", pullback, METH_O, NULL};

static int matches(PyObject *x, const Form *form) {
    if (!PyArray_CheckExact(x)) return 0;
    PyArrayObject *a = (PyArrayObject *)x;
    int n = PyArray_NDIM(a);
    if (PyArray_DESCR(a) != form->dtype || n != form->axes || !PyArray_ISALIGNED(a)) return 0;
    for (int i = 0; i < n; ++i)
        if (PyArray_DIM(a, i) != form->lengths[i] || PyArray_STRIDE(a, i) != form->lengths[n + i]) return 0;
    return 1;
}

static void release(const Plan *plan, PyObject **objects, i64 n) {
    for (i64 i = 0; i < n; ++i) Py_DECREF(objects[plan->arguments + i]);
}

/* 0: done, 1: nothing has happened, 2: an error */
static int execute(const Plan *plan, PyObject **objects) {
    char *data[MOST];
    for (i64 i = 0; i < plan->arguments; ++i) data[i] = PyArray_BYTES((PyArrayObject *)objects[i]);
    for (i64 j = 0; j < plan->results; ++j) {
        const NewForm *form = plan->made + j;
        Py_INCREF(form->dtype);
        PyObject *o = PyArray_NewFromDescr(&PyArray_Type, form->dtype, (int)form->axes, form->shape, form->strides, NULL, 0, NULL);
        if (!o) {
            release(plan, objects, j);
            return 2;
        }
        objects[plan->arguments + j] = o;
        data[plan->arguments + j] = PyArray_BYTES((PyArrayObject *)o);
    }
    for (i64 k = 0; k < plan->relocations; ++k) *plan->moves[k].cell = data[plan->moves[k].array] + plan->moves[k].offset;
    if (fetestexcept(EXCEPTIONS)) feclearexcept(EXCEPTIONS);
    i64 done = plan->run(plan->table, 0, plan->rows);
    if (done == plan->rows && !fetestexcept(EXCEPTIONS)) return 0;
    feclearexcept(EXCEPTIONS);
    release(plan, objects, plan->results);
    return 1;
}

static PyObject *collect(const Plan *plan, PyObject **objects, i64 from) {
    PyObject *made = PyTuple_New(plan->given + from);
    for (i64 i = 0; made && i < plan->given; ++i) {
        PyObject *item = plan->numbers[i] < 0 ? Py_None : objects[plan->numbers[i]];
        PyTuple_SET_ITEM(made, i + from, Py_NewRef(item));
    }
    return made;
}

static PyObject *outputs(const Plan *plan, PyObject **first) {
    if (plan->outputs == 1) return Py_NewRef(first[0]);
    PyObject *made = PyTuple_New(plan->outputs);
    for (i64 i = 0; made && i < plan->outputs; ++i) PyTuple_SET_ITEM(made, i, Py_NewRef(first[i]));
    return made;
}

static PyObject *with_pullback(const Plan *plan, PyObject **objects, PyObject *y) {
    PyObject *pull = NULL;
    if (!plan->pull) {
        pull = Py_NewRef(Py_None);
    } else {
        PyObject *state = collect(plan, objects, 1);
        if (!state) return NULL;
        PyTuple_SET_ITEM(state, 0, Py_NewRef(plan->back));
        pull = PyCFunction_NewEx(&pull_definition, state, NULL);
        Py_DECREF(state);
    }
    PyObject *both = pull ? PyTuple_New(2) : NULL;
    if (!both) {
        Py_XDECREF(pull);
        return NULL;
    }
    PyTuple_SET_ITEM(both, 0, Py_NewRef(y));
    PyTuple_SET_ITEM(both, 1, pull);
    return both;
}

static i64 *cells(PyObject *tuple) { return PyArray_DATA((PyArrayObject *)PyTuple_GET_ITEM(tuple, 0)); }

static PyObject *dispatch(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    PyObject *objects[MOST];
    for (Plan *plan = *(Plan **)cells(self); plan; plan = plan->next) {
        if (plan->arguments != n) continue;
        i64 i = 0;
        while (i < n && matches(args[i], plan->forms[i])) objects[i] = args[i], ++i;
        if (i < n) continue;
        int status = execute(plan, objects);
        if (status == 2) return NULL;
        if (status == 1) break;
        PyObject *y = outputs(plan, objects + n);
        PyObject *answer = y;
        if (y && (plan->pull || plan->outputs != 1)) {
            answer = with_pullback(plan, objects, y);
            Py_DECREF(y);
        }
        release(plan, objects, plan->results);
        return answer;
    }
    Py_RETURN_NONE;
}

static PyObject *pullback(PyObject *self, PyObject *g) {
    PyObject *objects[MOST], *holder = PyTuple_GET_ITEM(self, 0);
    const Plan *plan = (Plan *)cells(holder);
    i64 n = plan->arguments - 1;
    for (i64 i = 0; i < n; ++i) objects[i] = PyTuple_GET_ITEM(self, i + 1);
    objects[n] = g;
    if (matches(g, plan->forms[n])) {
        int status = execute(plan, objects);
        if (status == 2) return NULL;
        if (status == 0) {
            PyObject *result = collect(plan, objects, 0);
            release(plan, objects, plan->results);
            return result;
        }
    }
    return PyObject_CallFunctionObjArgs(PyTuple_GET_ITEM(holder, 1), self, g, NULL);
}

static PyObject *primitive(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    i64 *given = cells(self);
    void *data[MOST];
    if (n != given[0]) return PyLong_FromLong(-1);
    for (Py_ssize_t i = 0; i < n; ++i) {
        if (!PyArray_CheckExact(args[i])) return PyLong_FromLong(-1);
        data[i] = PyArray_DATA((PyArrayObject *)args[i]);
    }
    return PyLong_FromLongLong(((i64(*)(void *, void *, void *, void *))given[2])(data, given, NULL, (void *)given[3]));
}

/* A chain of operations as loops that were compiled beforehand do it: block after block, one loop an operation. */
static PyObject *chain_in_blocks(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    enum { BLOCK = 4096 };
    const float *x = PyArray_DATA((PyArrayObject *)args[0]);
    float *y = PyArray_DATA((PyArrayObject *)args[1]), t[BLOCK];
    npy_intp size = PyArray_SIZE((PyArrayObject *)args[0]);
    for (npy_intp at = 0; at < size; at += BLOCK) {
        npy_intp m = size - at < BLOCK ? size - at : BLOCK;
        for (npy_intp i = 0; i < m; ++i) t[i] = x[at + i] + 3.0f;
        for (npy_intp i = 0; i < m; ++i) t[i] = t[i] > 0.0f ? t[i] : 0.0f;
        for (npy_intp i = 0; i < m; ++i) t[i] = t[i] < 6.0f ? t[i] : 6.0f;
        for (npy_intp i = 0; i < m; ++i) t[i] = t[i] * x[at + i];
        for (npy_intp i = 0; i < m; ++i) y[at + i] = t[i] / 6.0f;
    }
    Py_RETURN_NONE;
}

static PyObject *chain_in_one(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    const float *x = PyArray_DATA((PyArrayObject *)args[0]);
    float *y = PyArray_DATA((PyArrayObject *)args[1]);
    npy_intp size = PyArray_SIZE((PyArrayObject *)args[0]);
    for (npy_intp i = 0; i < size; ++i) {
        float t = x[i] + 3.0f;
        t = t > 0.0f ? t : 0.0f;
        t = t < 6.0f ? t : 6.0f;
        y[i] = t * x[i] / 6.0f;
    }
    Py_RETURN_NONE;
}

static PyObject *addresses(PyObject *self, PyObject *none) {
    return Py_BuildValue("{s:L,s:L,s:L}", "dispatch", (long long)(intptr_t)dispatch, "pullback", (long long)(intptr_t)pullback, "primitive",
                         (long long)(intptr_t)primitive);
}

static PyMethodDef methods[] = {
    {"addresses", addresses, METH_NOARGS, NULL},
    {"chain_in_blocks", (PyCFunction)(void (*)(void))chain_in_blocks, METH_FASTCALL, NULL},
    {"chain_in_one", (PyCFunction)(void (*)(void))chain_in_one, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "calls", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_calls(void) {
    import_array();
    return PyModule_Create(&module);
}
