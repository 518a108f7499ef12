/* The extension lbproxy.net._syscalls: what lbproxy/net/plain.py does, in C; see there for what each call does.
 *
 * Most of what an exchange costs in Python is not Python code but what stands between it and the kernel: arguments
 * parsed the slow way, memoryviews cut and dropped, and the interpreter lock given up and taken back for calls that
 * never wait. None of these functions waits, so all of them keep the lock.
 *
 *     module.c    the module and its functions
 *     bytes.c     recv, send, copy, splice
 *     socket.c    the type Socket, accept, connect
 *     address.c   socket addresses as Python's tuples, and back
 *     epoll.c     the type Epoll, and how uvloop is embedded in it
 *     uv.c        libuv, as uvloop's library exports it
 */
#ifndef LBPROXY_COMMON_H
#define LBPROXY_COMMON_H

#define PY_SSIZE_T_CLEAN
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <Python.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Entries of method tables. */
#define FAST(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL, NULL
#define NO_ARGUMENTS(function) (PyCFunction)function, METH_NOARGS, NULL

/* A call again for as long as a signal interrupts it, as Python does (PEP 475). */
#define AGAIN(result, call) \
    do \
        result = (call); \
    while (result < 0 && errno == EINTR)

/* What libc calls a point of cancellation costs 30 instructions more as soon as there is a second thread. */
static inline ssize_t sys_read(int fd, void *into, size_t size)
{
    ssize_t got;
    AGAIN(got, syscall(SYS_read, fd, into, size));
    return got;
}

static inline ssize_t sys_write(int fd, const void *from, size_t size)
{
    ssize_t sent;
    AGAIN(sent, syscall(SYS_write, fd, from, size));
    return sent;
}

static inline int sys_close(int fd)
{
    return (int)syscall(SYS_close, fd);
}

/* Sets the exception for errno; for `return failed();`. */
static inline PyObject *failed(void)
{
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* Reads the first `count` of `args` into `into`; false with an exception set. EPOLLET is the highest bit of 32. */
static inline bool ints(PyObject *const *args, Py_ssize_t given, Py_ssize_t count, int *into)
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

/* A tuple that takes over `count` items; if one of them could not be made, NULL. */
static inline PyObject *tuple_of(PyObject **items, Py_ssize_t count)
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

/* Closes a descriptor that an object owns; twice is once. */
static inline PyObject *close_owned(int *fd)
{
    int closed = *fd;
    *fd = -1;
    if (closed >= 0 && sys_close(closed) < 0 && errno != ECONNRESET)
        return failed();
    Py_RETURN_NONE;
}

/* bytes.c */
PyObject *bytes_recv(PyObject *module, PyObject *const *args, Py_ssize_t given);
PyObject *bytes_send(PyObject *module, PyObject *const *args, Py_ssize_t given);
PyObject *bytes_copy(PyObject *module, PyObject *const *args, Py_ssize_t given);
PyObject *bytes_splice(PyObject *module, PyObject *const *args, Py_ssize_t given);

/* socket.c */
bool socket_type_ready(void);
PyObject *socket_accept(PyObject *module, PyObject *const *args, Py_ssize_t given);
PyObject *socket_connect(PyObject *module, PyObject *const *args, Py_ssize_t given);

/* address.c */
union address {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
};
PyObject *tuple_of_address(const union address *address);
socklen_t address_of(int family, PyObject *tuple, union address *into);

/* epoll.c */
bool epoll_type_ready(void);
PyObject *epoll_new(PyObject *module, PyObject *ignored);

#endif
