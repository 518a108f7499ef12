#include "common.h"

#include <netinet/tcp.h>
#include <stddef.h>
#include <structmember.h>
#include <sys/socket.h>

/* See contract.Socket. */
typedef struct {
    PyObject_HEAD
    int fd;
    int family;
} Socket;

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
    return close_owned(&self->fd);
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

static PyObject *socket_getsockname(Socket *self, PyObject *ignored)
{
    union address address;
    socklen_t length = sizeof address;
    return getsockname(self->fd, &address.any, &length) < 0 ? failed() : tuple_of_address(&address);
}

static PyMethodDef methods[] = {
    {"fileno", NO_ARGUMENTS(socket_fileno)},
    {"close", NO_ARGUMENTS(socket_close)},
    {"shutdown", FAST(socket_shutdown)},
    {"getsockopt", FAST(socket_getsockopt)},
    {"setsockopt", FAST(socket_setsockopt)},
    {"getsockname", NO_ARGUMENTS(socket_getsockname)},
    {0},
};

static PyMemberDef members[] = {
    {"family", T_INT, offsetof(Socket, family), READONLY, NULL},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, socket_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0},
};

static PyType_Spec spec = {
    .name = "lbproxy.net._syscalls.Socket",
    .basicsize = sizeof(Socket),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

bool socket_type_ready(void)
{
    return socket_type || (socket_type = (PyTypeObject *)PyType_FromSpec(&spec));
}

PyObject *socket_accept(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    int from;
    union address peer;
    socklen_t length = sizeof peer;
    if (!ints(args + 1, given - 1, 1, &from))
        return NULL;
    int fd;
    AGAIN(fd, (int)syscall(SYS_accept4, from, &peer.any, &length, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd < 0)
        return errno == EAGAIN ? Py_NewRef(Py_None) : failed();
    PyObject *both[] = {socket_of(fd, peer.any.sa_family), tuple_of_address(&peer)};
    return tuple_of(both, 2);
}

PyObject *socket_connect(PyObject *module, PyObject *const *args, Py_ssize_t given)
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
    int result = setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!result)
        AGAIN(result, (int)syscall(SYS_connect, fd, &address.any, length));
    if (result < 0 && errno != EINPROGRESS) {
        failed();
        close(fd);
        return NULL;
    }
    return socket_of(fd, family);
}
