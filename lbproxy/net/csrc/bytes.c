#include "common.h"

#include <fcntl.h>

enum { BUFFER = 64 * 1024 }; /* as contract.BUFFER */

static unsigned char buffer[BUFFER];

PyObject *bytes_recv(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    int of[2];
    if (!ints(args, given, 2, of))
        return NULL;
    ssize_t size = sys_read(of[0], buffer, of[1] >= 0 && of[1] < BUFFER ? (size_t)of[1] : BUFFER);
    return size < 0 ? failed() : PyBytes_FromStringAndSize((char *)buffer, size);
}

PyObject *bytes_send(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    int fd;
    if (!ints(args, given, 1, &fd))
        return NULL;
    if (given != 2 || !PyBytes_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "expected a descriptor and bytes");
        return NULL;
    }
    ssize_t sent = sys_write(fd, PyBytes_AS_STRING(args[1]), (size_t)PyBytes_GET_SIZE(args[1]));
    return sent < 0 ? failed() : PyLong_FromSsize_t(sent);
}

PyObject *bytes_copy(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    int fds[2];
    if (!ints(args, given, 2, fds))
        return NULL;
    ssize_t size = sys_read(fds[0], buffer, BUFFER);
    if (size <= 0)
        return PyLong_FromSsize_t(size < 0 ? -errno : 0);
    ssize_t sent = sys_write(fds[1], buffer, (size_t)size);
    if (sent == size)
        return PyLong_FromSsize_t(size);
    if (sent < 0)
        sent = errno == EAGAIN ? 0 : -errno;
    Py_ssize_t left = sent < 0 ? 0 : size - sent;
    PyObject *parts[] = {PyLong_FromSsize_t(size), PyLong_FromSsize_t(sent),
                         PyBytes_FromStringAndSize((char *)buffer + size - left, left)};
    return tuple_of(parts, 3);
}

PyObject *bytes_splice(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    int of[3];
    if (!ints(args, given, 3, of))
        return NULL;
    ssize_t moved;
    AGAIN(moved, splice(of[0], NULL, of[1], NULL, (size_t)of[2], SPLICE_F_MOVE | SPLICE_F_NONBLOCK));
    return PyLong_FromSsize_t(moved < 0 ? -errno : moved);
}
