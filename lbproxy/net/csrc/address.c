#include "common.h"

#include <arpa/inet.h>
#include <string.h>

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
PyObject *tuple_of_address(const union address *address)
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
socklen_t address_of(int family, PyObject *tuple, union address *into)
{
    Py_ssize_t parts = PyTuple_GET_SIZE(tuple);
    if (parts < 2 || parts > 4) {
        PyErr_SetString(PyExc_TypeError, "an address has a host, a port and up to two parts more");
        return 0;
    }
    const char *host = PyUnicode_AsUTF8(PyTuple_GET_ITEM(tuple, 0));
    int of[3] = {0}; /* port, flow information, scope */
    if (!host || !ints(&PyTuple_GET_ITEM(tuple, 1), parts - 1, parts - 1, of))
        return 0;
    memset(into, 0, sizeof *into);
    into->any.sa_family = (sa_family_t)family;
    if (of[0] < 0 || of[0] > 65535) {
        PyErr_SetString(PyExc_OverflowError, "a port is from 0 to 65535");
        return 0;
    }
    if (family == AF_INET && inet_pton(family, host, &into->four.sin_addr) == 1) {
        into->four.sin_port = htons((uint16_t)of[0]);
        return sizeof into->four;
    }
    if (family == AF_INET6 && inet_pton(family, host, &into->six.sin6_addr) == 1) {
        into->six.sin6_port = htons((uint16_t)of[0]);
        into->six.sin6_flowinfo = htonl((uint32_t)of[1]);
        into->six.sin6_scope_id = (uint32_t)of[2];
        return sizeof into->six;
    }
    PyErr_Format(PyExc_ValueError, "not an address of family %d: %s", family, host);
    return 0;
}
