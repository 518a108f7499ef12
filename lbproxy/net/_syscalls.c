/* The functions of lbproxy/net/syscalls.py once more, as an extension module: see there for what they do.
 *
 * Most of what an exchange costs in Python is not Python code but what stands between it and the kernel: arguments
 * parsed the slow way, memoryviews cut and dropped, and the interpreter lock given up and taken back for calls that
 * never wait. None of these functions waits, so all of them keep the lock.
 */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <structmember.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 64 * 1024, MOST = 256 };

static unsigned char buffer[BUFFER];

/* Reads the first `count` of `args` into `into`; false with an exception set. EPOLLET is the highest bit of 32. */
static bool ints(PyObject *const *args, Py_ssize_t given, Py_ssize_t count, int *into)
{
    if (given < count) {
        PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd", count, given);
        return false;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        long value = PyLong_AsLong(args[i]);
        if (value == -1 && PyErr_Occurred())
            return false;
        if (value < INT_MIN || value > UINT_MAX) {
            PyErr_SetString(PyExc_OverflowError, "more than 32 bits");
            return false;
        }
        into[i] = (int)value;
    }
    return true;
}

static PyObject *failed(void)
{
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* A tuple that takes over `count` items; if one of them could not be made, NULL. */
static PyObject *tuple_of(PyObject **items, Py_ssize_t count)
{
    bool whole = true;
    for (Py_ssize_t i = 0; i < count; i++)
        whole = whole && items[i];
    PyObject *tuple = whole ? PyTuple_New(count) : NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (tuple)
            PyTuple_SET_ITEM(tuple, i, items[i]);
        else
            Py_XDECREF(items[i]);
    }
    return tuple;
}

/* ---- libuv, as uvloop's library exports it ----
 *
 * The set is not watched by the loop: a set inside another costs every wake-up a second system call and the loop's own
 * work. Instead it watches the loop, as libuv means to be embedded (uv_backend_fd, uv_backend_timeout): a prepare handle
 * is called before each poll of the loop and waits in the set, until the loop has something to do; the poll itself never
 * waits, since an idle handle is active during it.
 */

static struct {
    size_t (*handle_size)(int type);
    int (*prepare_init)(void *loop, void *handle);
    int (*prepare_start)(void *handle, void (*callback)(void *handle));
    int (*idle_init)(void *loop, void *handle);
    int (*idle_start)(void *handle, void (*callback)(void *handle));
    int (*idle_stop)(void *handle);
    void (*close)(void *handle, void (*callback)(void *handle));
    void (*unref)(void *handle);
    int (*backend_fd)(const void *loop);
    int (*backend_timeout)(const void *loop);
    void (*update_time)(void *loop);
} uv;

enum { UV_IDLE = 6, UV_PREPARE = 9 }; /* of enum uv_handle_type; fixed since libuv 1.0 */

/* Fills in `uv` from the library at `path`, which is loaded; false if it lacks anything. */
static bool find_uv(const char *path)
{
    struct {
        const char *name;
        void *into;
    } wanted[] = {
        {"uv_handle_size", &uv.handle_size},         {"uv_prepare_init", &uv.prepare_init},
        {"uv_prepare_start", &uv.prepare_start},     {"uv_idle_init", &uv.idle_init},
        {"uv_idle_start", &uv.idle_start},           {"uv_idle_stop", &uv.idle_stop},
        {"uv_close", &uv.close},                     {"uv_unref", &uv.unref},
        {"uv_backend_fd", &uv.backend_fd},           {"uv_backend_timeout", &uv.backend_timeout},
        {"uv_update_time", &uv.update_time},
    };
    void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    bool found = library;
    for (size_t i = 0; found && i < sizeof wanted / sizeof *wanted; i++) {
        void *function = dlsym(library, wanted[i].name);
        memcpy(wanted[i].into, &function, sizeof function);
        found = function;
    }
    return found;
}

/* ---- Epoll ---- */

typedef struct {
    PyObject_HEAD
    int fd;
    void *loop;     /* uv_loop_t, NULL unless the set watches one */
    int loop_fd;
    void *prepare;  /* uv_prepare_t, and behind it a pointer to this */
    void *idle;     /* uv_idle_t */
    PyObject *turn; /* called by the prepare handle */
    bool due;       /* the loop has something to do */
} Epoll;

static void nothing(void *handle)
{
}

static void before_poll(void *prepare)
{
    Epoll *self;
    memcpy(&self, (char *)prepare + uv.handle_size(UV_PREPARE), sizeof self);
    PyGILState_STATE state = PyGILState_Ensure();
    Py_INCREF(self);
    uv.idle_stop(self->idle);
    PyObject *result = PyObject_CallNoArgs(self->turn);
    if (!result)
        PyErr_WriteUnraisable(self->turn);
    Py_XDECREF(result);
    if (self->loop)
        uv.idle_start(self->idle, nothing);
    Py_DECREF(self);
    PyGILState_Release(state);
}

static PyObject *epoll_embed(Epoll *self, PyObject *args)
{
    PyObject *capsule, *turn;
    const char *path;
    if (!PyArg_ParseTuple(args, "OsO", &capsule, &path, &turn))
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
    self->turn = Py_NewRef(turn);
    Py_INCREF(self); /* for the prepare handle */
    Py_RETURN_TRUE;
}

static PyObject *epoll_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    if (PyTuple_GET_SIZE(args) || (keywords && PyDict_GET_SIZE(keywords))) {
        PyErr_SetString(PyExc_TypeError, "Epoll takes no arguments");
        return NULL;
    }
    Epoll *self = (Epoll *)type->tp_alloc(type, 0);
    if (self && (self->fd = epoll_create1(EPOLL_CLOEXEC)) < 0) {
        Py_DECREF(self);
        return failed();
    }
    return (PyObject *)self;
}

static PyObject *close_it(int *fd)
{
    int closed = *fd;
    *fd = -1;
    if (closed >= 0 && close(closed) < 0 && errno != ECONNRESET)
        return failed();
    Py_RETURN_NONE;
}

static PyObject *epoll_close(Epoll *self, PyObject *ignored)
{
    if (self->loop) {
        self->loop = NULL;
        uv.close(self->prepare, free);
        uv.close(self->idle, free);
        Py_CLEAR(self->turn);
        Py_DECREF(self); /* who calls this has another */
    }
    return close_it(&self->fd);
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

/* What is ready; may wait for it, or for the loop to have something to do. `due` is whether it has. */
static PyObject *ready(Epoll *self, bool may_wait)
{
    struct epoll_event events[MOST];
    int count, timeout = 0;
    if (self->loop) {
        uv.update_time(self->loop);
        timeout = uv.backend_timeout(self->loop);
    }
    self->due = timeout == 0;
    if (timeout && may_wait) {
        Py_BEGIN_ALLOW_THREADS
        count = epoll_wait(self->fd, events, MOST, timeout);
        Py_END_ALLOW_THREADS
    } else {
        count = epoll_wait(self->fd, events, MOST, 0);
    }
    if (count < 0 && errno != EINTR)
        return failed();
    self->due = self->due || count < 0 || (count == 0 && may_wait);
    int shown = count < 0 ? 0 : count;
    for (int i = 0; self->loop && i < count; i++)
        if (events[i].data.fd == self->loop_fd) {
            self->due = true;
            events[i] = events[--shown];
            break;
        }
    PyObject *told = PyTuple_New(2 * shown);
    for (int i = 0; told && i < shown; i++) {
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
    return ready(self, false);
}

static PyObject *epoll_wait_or_poll(Epoll *self, PyObject *ignored)
{
    return ready(self, true);
}

static PyObject *epoll_due(Epoll *self, PyObject *ignored)
{
    return PyBool_FromLong(self->due);
}

/* ---- Socket: what of socket.SocketType is used here of a TCP socket ---- */

typedef struct {
    PyObject_HEAD
    int fd;
    int family;
} Socket;

union address {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
};

static PyTypeObject *socket_type;

/* A socket that owns `fd`; closes it when there is no memory for one. */
static PyObject *socket_of(int fd, int family)
{
    Socket *self = (Socket *)socket_type->tp_alloc(socket_type, 0);
    if (!self) {
        close(fd);
        return NULL;
    }
    self->fd = fd;
    self->family = family;
    return (PyObject *)self;
}

static PyObject *socket_close(Socket *self, PyObject *ignored)
{
    return close_it(&self->fd);
}

static void socket_dealloc(Socket *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (self->fd >= 0)
        close(self->fd);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *socket_fileno(Socket *self, PyObject *ignored)
{
    return PyLong_FromLong(self->fd);
}

static PyObject *socket_shutdown(Socket *self, PyObject *const *args, Py_ssize_t given)
{
    int how;
    if (!ints(args, given, 1, &how))
        return NULL;
    return shutdown(self->fd, how) < 0 ? failed() : Py_NewRef(Py_None);
}

static PyObject *socket_getsockopt(Socket *self, PyObject *const *args, Py_ssize_t given)
{
    int of[3] = {0}, value = 0;
    unsigned char bytes[256];
    if (!ints(args, given, given == 3 ? 3 : 2, of))
        return NULL;
    socklen_t size = given == 3 ? (socklen_t)of[2] : sizeof value;
    if (size > sizeof bytes) {
        PyErr_SetString(PyExc_ValueError, "no option is that long");
        return NULL;
    }
    if (getsockopt(self->fd, of[0], of[1], given == 3 ? (void *)bytes : &value, &size) < 0)
        return failed();
    return given == 3 ? PyBytes_FromStringAndSize((char *)bytes, size) : PyLong_FromLong(value);
}

static PyObject *socket_setsockopt(Socket *self, PyObject *const *args, Py_ssize_t given)
{
    int of[3];
    bool bytes = given == 3 && PyBytes_Check(args[2]);
    if (!ints(args, given, bytes ? 2 : 3, of))
        return NULL;
    const void *value = bytes ? (void *)PyBytes_AS_STRING(args[2]) : &of[2];
    socklen_t size = bytes ? (socklen_t)PyBytes_GET_SIZE(args[2]) : sizeof of[2];
    return setsockopt(self->fd, of[0], of[1], value, size) < 0 ? failed() : Py_NewRef(Py_None);
}

/* inet_ntop goes through printf, which costs as much as all the rest of an accept. */
static PyObject *host_of_four(const unsigned char *bytes)
{
    char text[sizeof "255.255.255.255"], *at = text;
    for (int i = 0; i < 4; i++) {
        if (bytes[i] >= 100)
            *at++ = (char)('0' + bytes[i] / 100);
        if (bytes[i] >= 10)
            *at++ = (char)('0' + bytes[i] / 10 % 10);
        *at++ = (char)('0' + bytes[i] % 10);
        *at++ = '.';
    }
    return PyUnicode_DecodeASCII(text, at - text - 1, NULL);
}

static PyObject *host_of_six(const struct in6_addr *address)
{
    char text[INET6_ADDRSTRLEN];
    return PyUnicode_FromString(inet_ntop(AF_INET6, address, text, sizeof text));
}

/* An address as Python's socket module has it. */
static PyObject *tuple_of_address(const union address *address)
{
    bool six = address->any.sa_family == AF_INET6;
    PyObject *parts[] = {
        six ? host_of_six(&address->six.sin6_addr) : host_of_four((const void *)&address->four.sin_addr),
        PyLong_FromLong(ntohs(six ? address->six.sin6_port : address->four.sin_port)),
        six ? PyLong_FromUnsignedLong(ntohl(address->six.sin6_flowinfo)) : NULL,
        six ? PyLong_FromUnsignedLong(address->six.sin6_scope_id) : NULL,
    };
    return tuple_of(parts, six ? 4 : 2);
}

/* The same the other way round: fills `into` and returns its length, 0 with an exception set. */
static socklen_t address_of(int family, PyObject *tuple, union address *into)
{
    const char *host;
    int port;
    unsigned int flow = 0, scope = 0;
    if (!PyArg_ParseTuple(tuple, "si|II", &host, &port, &flow, &scope))
        return 0;
    memset(into, 0, sizeof *into);
    into->any.sa_family = (sa_family_t)family;
    if (port < 0 || port > 65535) {
        PyErr_SetString(PyExc_OverflowError, "a port is from 0 to 65535");
        return 0;
    }
    if (family == AF_INET && inet_pton(family, host, &into->four.sin_addr) == 1) {
        into->four.sin_port = htons((uint16_t)port);
        return sizeof into->four;
    }
    if (family == AF_INET6 && inet_pton(family, host, &into->six.sin6_addr) == 1) {
        into->six.sin6_port = htons((uint16_t)port);
        into->six.sin6_flowinfo = htonl(flow);
        into->six.sin6_scope_id = scope;
        return sizeof into->six;
    }
    PyErr_Format(PyExc_ValueError, "not an address of family %d: %s", family, host);
    return 0;
}

static PyObject *socket_getsockname(Socket *self, PyObject *ignored)
{
    union address address;
    socklen_t length = sizeof address;
    return getsockname(self->fd, &address.any, &length) < 0 ? failed() : tuple_of_address(&address);
}

/* ---- functions ---- */

static PyObject *calls_accept(PyObject *module, PyObject *listener)
{
    union address peer;
    socklen_t length = sizeof peer;
    int from = PyObject_AsFileDescriptor(listener);
    if (from < 0)
        return NULL;
    int fd = accept4(from, &peer.any, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return errno == EAGAIN ? Py_NewRef(Py_None) : failed();
    PyObject *both[] = {socket_of(fd, peer.any.sa_family), tuple_of_address(&peer)};
    return tuple_of(both, 2);
}

static PyObject *calls_connect(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    int family, on = 1;
    union address address;
    if (!ints(args, given, 1, &family))
        return NULL;
    if (given != 2 || !PyTuple_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "expected a family and an address");
        return NULL;
    }
    socklen_t length = address_of(family, args[1], &address);
    if (!length)
        return NULL;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return failed();
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0
        || (connect(fd, &address.any, length) < 0 && errno != EINPROGRESS)) {
        failed();
        close(fd);
        return NULL;
    }
    return socket_of(fd, family);
}

static PyObject *calls_recv(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    int of[2];
    if (!ints(args, given, 2, of))
        return NULL;
    ssize_t size = read(of[0], buffer, of[1] >= 0 && of[1] < BUFFER ? (size_t)of[1] : BUFFER);
    return size < 0 ? failed() : PyBytes_FromStringAndSize((char *)buffer, size);
}

static PyObject *calls_send(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    int fd;
    if (!ints(args, given, 1, &fd))
        return NULL;
    if (given != 2 || !PyBytes_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "expected a descriptor and bytes");
        return NULL;
    }
    ssize_t sent = write(fd, PyBytes_AS_STRING(args[1]), (size_t)PyBytes_GET_SIZE(args[1]));
    return sent < 0 ? failed() : PyLong_FromSsize_t(sent);
}

static PyObject *calls_copy(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    int fds[2];
    if (!ints(args, given, 2, fds))
        return NULL;
    ssize_t size = read(fds[0], buffer, BUFFER);
    if (size <= 0)
        return PyLong_FromSsize_t(size < 0 ? -errno : 0);
    ssize_t sent = write(fds[1], buffer, (size_t)size);
    if (sent == size)
        return PyLong_FromSsize_t(size);
    if (sent < 0)
        sent = errno == EAGAIN ? 0 : -errno;
    Py_ssize_t left = sent < 0 ? 0 : size - sent;
    PyObject *parts[] = {PyLong_FromSsize_t(size), PyLong_FromSsize_t(sent),
                         PyBytes_FromStringAndSize((char *)buffer + size - left, left)};
    return tuple_of(parts, 3);
}

static PyObject *calls_splice(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    int of[3];
    if (!ints(args, given, 3, of))
        return NULL;
    ssize_t moved;
    do
        moved = splice(of[0], NULL, of[1], NULL, (size_t)of[2], SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    while (moved < 0 && errno == EINTR);
    return PyLong_FromSsize_t(moved < 0 ? -errno : moved);
}

/* ---- the module ---- */

#define FAST(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL

static PyMethodDef epoll_methods[] = {
    {"fileno", (PyCFunction)epoll_fileno, METH_NOARGS, NULL},
    {"register", FAST(epoll_register), NULL},
    {"unregister", FAST(epoll_unregister), NULL},
    {"poll", (PyCFunction)epoll_poll, METH_NOARGS, NULL},
    {"wait", (PyCFunction)epoll_wait_or_poll, METH_NOARGS, NULL},
    {"due", (PyCFunction)epoll_due, METH_NOARGS, NULL},
    {"embed", (PyCFunction)epoll_embed, METH_VARARGS, NULL},
    {"close", (PyCFunction)epoll_close, METH_NOARGS, NULL},
    {0},
};

static PyMethodDef socket_methods[] = {
    {"fileno", (PyCFunction)socket_fileno, METH_NOARGS, NULL},
    {"close", (PyCFunction)socket_close, METH_NOARGS, NULL},
    {"shutdown", FAST(socket_shutdown), NULL},
    {"getsockopt", FAST(socket_getsockopt), NULL},
    {"setsockopt", FAST(socket_setsockopt), NULL},
    {"getsockname", (PyCFunction)socket_getsockname, METH_NOARGS, NULL},
    {0},
};

static PyMemberDef socket_members[] = {
    {"family", T_INT, offsetof(Socket, family), READONLY, NULL},
    {0},
};

static PyType_Slot socket_slots[] = {
    {Py_tp_dealloc, socket_dealloc},
    {Py_tp_methods, socket_methods},
    {Py_tp_members, socket_members},
    {0},
};

static PyType_Spec socket_spec = {
    .name = "lbproxy.net._syscalls.Socket",
    .basicsize = sizeof(Socket),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = socket_slots,
};

static PyType_Slot epoll_slots[] = {
    {Py_tp_new, epoll_new},
    {Py_tp_dealloc, epoll_dealloc},
    {Py_tp_methods, epoll_methods},
    {0},
};

static PyType_Spec epoll_spec = {
    .name = "lbproxy.net._syscalls.Epoll",
    .basicsize = sizeof(Epoll),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = epoll_slots,
};

static PyMethodDef functions[] = {
    {"accept", calls_accept, METH_O, NULL},
    {"connect", FAST(calls_connect), NULL},
    {"recv", FAST(calls_recv), NULL},
    {"send", FAST(calls_send), NULL},
    {"copy", FAST(calls_copy), NULL},
    {"splice", FAST(calls_splice), NULL},
    {0},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_syscalls", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit__syscalls(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyObject *type = PyType_FromSpec(&epoll_spec);
    socket_type = (PyTypeObject *)PyType_FromSpec(&socket_spec);
    if (!module || !type || !socket_type || PyModule_AddObjectRef(module, "Epoll", type) < 0)
        Py_CLEAR(module);
    Py_XDECREF(type);
    return module;
}
