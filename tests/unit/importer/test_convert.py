"""nginx.conf and haproxy.cfg to lbproxy.yaml: what comes out is always valid, and nothing is dropped in silence."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.config.load import loads
from lbproxy.config.model import Address, Config
from lbproxy.errors import ConfigError
from lbproxy.importer.convert import told
from tests.support import kubespray
from tests.unit.importer.files import imported, refused
from tests.unit.importer.grammar import haproxy_files, nginx_files

FILES = {"nginx": nginx_files(), "haproxy": haproxy_files()}


def _fit_to_print(lines: list[str]) -> None:
    assert all("f:" in line and line.isprintable() for line in lines)


@pytest.mark.parametrize("stack", ["v4", "v6", "both"])
@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("name", kubespray.RENDERERS)
def test_nothing_of_what_kubespray_writes_is_left_out(name: str, count: int, stack: kubespray.Stack) -> None:
    """A node moves over with what it has: --strict has nothing to say."""
    servers = kubespray.masters(count, stack)
    made, left = imported(kubespray.RENDERERS[name](servers, stack))
    assert left == []
    config = loads(made, name)
    (proxy,) = config.proxies.values()
    assert [str(server.address) for server in proxy.servers] == servers
    loopback, everywhere = {"v4": "127.0.0.1", "v6": "::1"}, {"v4": "0.0.0.0", "v6": "::"}
    stacks = ["v4", "v6"] if stack == "both" else [stack]
    assert proxy.listen == tuple(Address(loopback[each], 6443) for each in stacks)
    assert config.admin is not None
    both = ["v4", "v6"] if stack == "v6" and name == "haproxy.cfg" else stacks  # HAProxy's :::8081 is of both
    assert set(config.admin.listen) == {Address(everywhere[each], 8081) for each in both}
    _values_as_kubespray_means_them(name, config)


def _values_as_kubespray_means_them(name: str, config: Config) -> None:
    (proxy,) = config.proxies.values()
    if name == "nginx.conf":
        assert (proxy.idle_timeout, proxy.connect_timeout, config.shutdown_timeout) == (600, 1, 10)
        return
    assert (proxy.idle_timeout, proxy.connect_timeout, proxy.connect_deadline, proxy.slow_start) == (300, 30, 30, 60)
    assert proxy.max_connections == 4000
    assert {(each.weight, each.max_conns) for each in proxy.servers} == {(100, 1000)}
    assert proxy.health is not None
    health = proxy.health
    assert (health.type, health.path, health.interval, health.timeout) == ("https", "/healthz", 15, 30)


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


@settings(max_examples=300)
@given(st.sampled_from(sorted(FILES)).flatmap(lambda name: st.tuples(st.just(name), FILES[name])))
def test_what_comes_out_is_valid_and_every_directive_is_in_it_or_named(file: tuple[str, str]) -> None:
    """`imported` has lbproxy read it; each line of the file has its place in a comment or in what is told."""
    program, text = file
    try:
        made, left = imported(text, program)
    except ConfigError as error:
        _fit_to_print(str(error).split("\n"))
        return
    said = [*made.splitlines(), *map(_ascii, left)]
    for number, line in enumerate(map(_ascii, text.splitlines()), 1):
        about = [each.partition(f"f:{number}: ")[2] for each in said if f"f:{number}: " in each]
        if name := line.rstrip("{; ").partition(" ")[0].strip("}"):
            assert any(each.startswith(name) for each in about), f"{number}: {line}"
        if name in ("server", "default-server"):
            for word in line.rstrip("{; ").split()[1 if "-" in name else 3 if program == "haproxy" else 2 :]:
                assert any(word[:30] in each or "..." in each for each in about), f"{number}: {word} of {line}"
    assert all(line.isprintable() for line in said)


@settings(max_examples=200)
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: f"stream {{ {text}".encode()))
def test_rubbish_is_refused_in_words(data: bytes) -> None:
    """Never a traceback, and nothing raw on the terminal."""
    for program in ("nginx", "haproxy", None):
        _fit_to_print(refused(data, program))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("stream {\n server {\n  listen 1;\n", 'f:3: unexpected end of file, expecting "}"'),
        ("events {}\n}\n", 'f:2: unexpected "}"'),
        ("stream { }\nuser 'a b;\n", "f:2: a quote is not closed, on this line or below"),
        ("stream { }\nuser a\n", 'f:2: user: directive is not ended by ";"'),
        ("events { }\nuser\n", 'f:2: user: directive is not ended by ";"'),
        ("\n".join(["a {"] * 40), "f:33: is nested more than 32 levels deep"),
        ("stream { server { listen 1:2:3; } }\nuser \x1b[31m;", "f:2: character U+001B is not allowed in a text file"),
        (b"events { }\nuser \xff\xfe;\n", "f:2: is not UTF-8 text (byte 0xff)"),
        (b"events { }\n\0\0", "f:2: character U+0000 is not allowed in a text file"),
        ("x" * (1 << 20), "f: cannot be read: larger than 256 KiB"),
        ("", "f: cannot be told whether it is nginx's or HAProxy's: say --from nginx or --from haproxy"),
        ("hello\nworld\n", "f: cannot be told whether it is nginx's or HAProxy's: say --from nginx or --from haproxy"),
        ("events { }\n", "f: has nothing that could be a proxy here, read as nginx's"),
        ("global\n  log 'x\n", "f:2: a quote is not closed"),
        ("global\n  log x\\\n", "f:2: ends in a backslash"),
        ("maxconn 5\nglobal\n", "f:1: maxconn: stands before the first section"),
        ("global\n.if defined(X)\n maxconn 5\n.endif\n",
         "f:2: .if: conditions are not evaluated: leave in the file only what holds"),
    ],
)  # fmt: skip
def test_what_is_broken_is_refused_at_its_line(text: str | bytes, why: str) -> None:
    """With FILE:LINE, as the programs themselves would."""
    assert refused(text)[-1] == why


def test_more_than_lbproxy_takes_is_refused() -> None:
    """The comments count, too."""
    one = "upstream u{n} {{ server 10.0.0.1:1; }}\nserver {{ listen 127.0.0.1:{n}; proxy_pass u{n}; }}\n"
    text = f"stream {{\n{''.join(one.format(n=n) for n in range(1, 1500))}}}\n"
    assert refused(text)[-1] == "f: as lbproxy.yaml it is larger than 256 KiB"


def test_what_lbproxy_would_refuse_is_told_of_the_file_it_comes_from() -> None:
    """The line is that of the file that is imported: nobody has seen another."""
    text = "stream {\n server {\n listen 127.0.0.1:1;\n proxy_pass 127.0.0.1:1;\n }\n}\n"
    assert refused(text) == [
        "f:4: proxies.127.0.0.1:1.servers[0]: 127.0.0.1:1 is this proxy itself, which listens on 127.0.0.1:1"
    ]


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("# a comment; {\nuser nginx;\n", "nginx"),
        ("stream\n{\n}\nuser x;\n", "nginx"),
        ("# {\nglobal\n  daemon # x {\n", "haproxy"),
        ("frontend x\n bind :1\n http-request deny if { path /a }\n", "haproxy"),
        ("defaults named from other\r\n mode tcp\r\n", "haproxy"),
        ("backend x {\n}\n", "nginx"),
        ("stream { server { listen 1; proxy_pass 10.0.0.1:1; }}\n", "nginx"),
        ("nothing\n", None),
        ("listen\n 80;\n", None),
    ],
)
def test_whose_file_it_is_is_told_by_what_is_in_it(text: str, program: str | None) -> None:
    """HAProxy's has sections, nginx's has blocks; --from is for what has both or neither."""
    assert told(text) == program


def test_names_and_comments_cannot_break_out_of_the_text() -> None:
    """Whatever stands in the file, the keys are those that the importer writes."""
    name = "x: {a: b} # \u2028 \u202e \u009b".replace("\u009b", "")
    made, _ = imported(
        f"stream {{\n upstream '{name}' {{ server 10.0.0.1:1; }}\n server {{ listen 1; proxy_pass '{name}'; }}\n}}\n"
    )
    assert list(yaml.safe_load(made)["proxies"]) == ["x:-a:-b-"]
    escaped, _ = imported("global\n user a\\nproxies:\\x1b[31m\nlisten x\n bind :1\n server a 10.0.0.1:1\n")
    assert r"# f:2: user a\nproxies:\x1b[31m: is up to the unit file" in escaped
    assert made.isascii()
    assert made.replace("\n", "").isprintable()


@pytest.mark.parametrize("part", ["{;}", "{", "{;", "{}"])
def test_whose_file_it_is_is_told_of_long_lines_too(part: str) -> None:
    """Of a line of 200 KiB that is neither's end the answer would not have come within a day."""
    assert told(part * (200_000 // len(part)) + "x") is None
