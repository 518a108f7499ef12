# The functions of `plain`, in C (csrc/).

from lbproxy.net.plain import accept as accept
from lbproxy.net.plain import connect as connect
from lbproxy.net.plain import copy as copy
from lbproxy.net.plain import epoll as epoll
from lbproxy.net.plain import recv as recv
from lbproxy.net.plain import send as send
from lbproxy.net.plain import splice as splice
