#include "common.h"

static PyMethodDef functions[] = {
    {"accept", FAST(socket_accept)},
    {"connect", FAST(socket_connect)},
    {"recv", FAST(bytes_recv)},
    {"send", FAST(bytes_send)},
    {"copy", FAST(bytes_copy)},
    {"splice", FAST(bytes_splice)},
    {"epoll", epoll_new, METH_NOARGS, NULL},
    {0},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_syscalls", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit__syscalls(void)
{
    return epoll_type_ready() && socket_type_ready() ? PyModule_Create(&definition) : NULL;
}
