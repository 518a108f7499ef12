#include "common.h"
#include "uv.h"

#include <string.h>
#include <sys/epoll.h>

enum { MOST = 256 }; /* as contract.MOST_EVENTS */

/* See contract.Epoll. */
typedef struct {
    PyObject_HEAD
    int fd;
    void *loop;       /* uv_loop_t, NULL unless it is embedded in the set */
    int loop_fd;
    void *prepare;    /* uv_prepare_t, and behind it a pointer to this */
    void *idle;       /* uv_idle_t */
    PyObject *handle; /* called with what is ready */
    bool due;         /* the loop has something to do */
} Epoll;

static PyTypeObject *epoll_type;

PyObject *epoll_new(PyObject *module, PyObject *ignored)
{
    Epoll *self = (Epoll *)epoll_type->tp_alloc(epoll_type, 0);
    if (self && (self->fd = epoll_create1(EPOLL_CLOEXEC)) < 0) {
        Py_DECREF(self);
        return failed();
    }
    return (PyObject *)self;
}

static void epoll_dealloc(Epoll *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (self->fd >= 0)
        close(self->fd);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *epoll_fileno(Epoll *self, PyObject *ignored)
{
    return PyLong_FromLong(self->fd);
}

static PyObject *control(Epoll *self, int what, int fd, int events)
{
    struct epoll_event event = {.events = (uint32_t)events, .data.fd = fd};
    if (epoll_ctl(self->fd, what, fd, &event) < 0)
        return failed();
    Py_RETURN_NONE;
}

static PyObject *epoll_register(Epoll *self, PyObject *const *args, Py_ssize_t given)
{
    int of[2];
    return ints(args, given, 2, of) ? control(self, EPOLL_CTL_ADD, of[0], of[1]) : NULL;
}

static PyObject *epoll_unregister(Epoll *self, PyObject *const *args, Py_ssize_t given)
{
    int fd;
    return ints(args, given, 1, &fd) ? control(self, EPOLL_CTL_DEL, fd, 0) : NULL;
}

/* epoll_wait(2), see sys_read. */
static int sys_wait(int set, struct epoll_event *events, int timeout)
{
    return (int)syscall(SYS_epoll_pwait, set, events, MOST, timeout, NULL, (size_t)0);
}

/* Events as contract.Epoll.poll returns them. */
static PyObject *tuple_of_events(const struct epoll_event *events, int count)
{
    PyObject *told = PyTuple_New(2 * count);
    for (int i = 0; told && i < count; i++) {
        PyObject *fd = PyLong_FromLong(events[i].data.fd), *mask = PyLong_FromUnsignedLong(events[i].events);
        PyTuple_SET_ITEM(told, 2 * i, fd);
        PyTuple_SET_ITEM(told, 2 * i + 1, mask);
        if (!fd || !mask)
            Py_CLEAR(told);
    }
    return told;
}

static PyObject *epoll_poll(Epoll *self, PyObject *ignored)
{
    struct epoll_event events[MOST];
    int count = sys_wait(self->fd, events, 0);
    return count < 0 && errno != EINTR ? failed() : tuple_of_events(events, count < 0 ? 0 : count);
}

/* ---- uvloop in the set ----
 *
 * The set is not watched by the loop: a set inside another costs every wake-up a second system call and the loop's own
 * work. Instead it watches the loop, as libuv means to be embedded (uv_backend_fd, uv_backend_timeout): a prepare handle
 * is called before each poll of the loop and waits in the set, until the loop has something to do; the poll itself never
 * waits, since an idle handle is active during it.
 */

/* Whether nobody else can want the interpreter's lock during a wait: a thread begins in Python code, which does not run
 * then. To give the lock up and take it back would be a fifth of an exchange. */
static bool alone(void)
{
    return !PyThreadState_Next(PyInterpreterState_ThreadHead(PyInterpreterState_Get()));
}

/* The same as poll, but may wait, for the loop too; `due` is whether that has something to do now. */
static PyObject *poll_both(Epoll *self, bool may_wait)
{
    struct epoll_event events[MOST];
    uv.update_time(self->loop);
    int timeout = uv.backend_timeout(self->loop);
    self->due = timeout == 0;
    PyThreadState *lock = timeout && may_wait && !alone() ? PyEval_SaveThread() : NULL;
    int count = sys_wait(self->fd, events, may_wait ? timeout : 0);
    if (lock)
        PyEval_RestoreThread(lock);
    if (count < 0 && errno != EINTR)
        return failed();
    self->due = self->due || count < 0 || (count == 0 && may_wait);
    int shown = count < 0 ? 0 : count;
    for (int i = 0; i < count; i++)
        if (events[i].data.fd == self->loop_fd) {
            self->due = true;
            events[i] = events[--shown];
            break;
        }
    return tuple_of_events(events, shown);
}

static void nothing(void *handle)
{
}

/* Tells what is ready until the loop is due. First nothing, so that `handle` can say whether there may be a wait. */
static void before_poll(void *prepare)
{
    Epoll *self;
    memcpy(&self, (char *)prepare + uv.handle_size(UV_PREPARE), sizeof self);
    PyGILState_STATE state = PyGILState_Ensure();
    Py_INCREF(self);
    uv.idle_stop(self->idle);
    PyObject *handle = Py_NewRef(self->handle), *told = PyTuple_New(0);
    self->due = false;
    while (told) {
        PyObject *again = PyObject_CallOneArg(handle, told);
        Py_CLEAR(told);
        if (again && self->loop && !self->due)
            told = poll_both(self, again != Py_True);
        Py_XDECREF(again);
    }
    if (PyErr_Occurred())
        PyErr_WriteUnraisable(handle);
    Py_DECREF(handle);
    if (self->loop)
        uv.idle_start(self->idle, nothing);
    Py_DECREF(self);
    PyGILState_Release(state);
}

static PyObject *epoll_embed(Epoll *self, PyObject *args)
{
    PyObject *capsule, *handle;
    const char *path;
    if (!PyArg_ParseTuple(args, "OsO", &capsule, &path, &handle))
        return NULL;
    void *loop = PyCapsule_GetPointer(capsule, NULL);
    if (!loop)
        return NULL;
    if (self->loop || !find_uv(path))
        Py_RETURN_FALSE;
    size_t size = uv.handle_size(UV_PREPARE);
    void *prepare = calloc(1, size + sizeof self), *idle = calloc(1, uv.handle_size(UV_IDLE));
    struct epoll_event event = {.events = EPOLLIN, .data.fd = uv.backend_fd(loop)};
    if (!prepare || !idle || epoll_ctl(self->fd, EPOLL_CTL_ADD, event.data.fd, &event) < 0) {
        free(prepare);
        free(idle);
        Py_RETURN_FALSE;
    }
    memcpy((char *)prepare + size, &self, sizeof self);
    uv.prepare_init(loop, prepare);
    uv.prepare_start(prepare, before_poll);
    uv.idle_init(loop, idle);
    uv.idle_start(idle, nothing);
    uv.unref(prepare); /* these two alone do not keep the loop going */
    uv.unref(idle);
    self->loop = loop;
    self->loop_fd = event.data.fd;
    self->prepare = prepare;
    self->idle = idle;
    self->handle = Py_NewRef(handle);
    Py_INCREF(self); /* for the prepare handle */
    Py_RETURN_TRUE;
}

static PyObject *epoll_close(Epoll *self, PyObject *ignored)
{
    if (self->loop) {
        self->loop = NULL;
        uv.close(self->prepare, free);
        uv.close(self->idle, free);
        Py_CLEAR(self->handle);
        Py_DECREF(self); /* who calls this has another */
    }
    return close_owned(&self->fd);
}

static PyMethodDef methods[] = {
    {"fileno", NO_ARGUMENTS(epoll_fileno)},
    {"register", FAST(epoll_register)},
    {"unregister", FAST(epoll_unregister)},
    {"poll", NO_ARGUMENTS(epoll_poll)},
    {"embed", (PyCFunction)epoll_embed, METH_VARARGS, NULL},
    {"close", NO_ARGUMENTS(epoll_close)},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, epoll_dealloc},
    {Py_tp_methods, methods},
    {0},
};

static PyType_Spec spec = {
    .name = "lbproxy.net._syscalls.Epoll",
    .basicsize = sizeof(Epoll),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

bool epoll_type_ready(void)
{
    return epoll_type || (epoll_type = (PyTypeObject *)PyType_FromSpec(&spec));
}
