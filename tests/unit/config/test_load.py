"""Files to configurations, and what is said of the bad ones."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.config import nodes
from lbproxy.config.load import Reading, control_of, load, loads, read_file
from lbproxy.config.model import DEFAULT_CONTROL, Address, Config, HealthConfig, ProxyConfig, ServerConfig
from lbproxy.errors import ConfigError
from tests.unit.config.strategies import configs, written

TESTS = Path(__file__).parents[2]
DATA = TESTS / "data" / "config"
CONFIG = TESTS.parent / "config"

MESSAGES = (DATA / "messages.txt").read_text().splitlines()
"""What `lbproxy check` says of every bad file: one table, as it stands on the terminal."""

BAD = {name: list(lines) for name, lines in itertools.groupby(MESSAGES, lambda line: line.partition(":")[0])}

LIBYAML = {"bad-syntax.yaml", "bad-tab.yaml", "bad-escape-too-large.yaml"}
"""Their reasons are in the words of PyYAML's C parser; the other one has its own."""


def problems(path: str | Path) -> list[str]:
    """Return what `load` has against a file, without its name."""
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert str(caught.value).splitlines() == list(map(str, caught.value.problems))
    return [str(problem).removeprefix(str(path)) for problem in caught.value.problems]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gets_exactly_these_lines(name: str) -> None:
    """Every rule has a file that breaks it."""
    assert [name + problem for problem in problems(DATA / name)] == BAD[name]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gets_the_same_lines_without_the_c_parser(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML may have been built without libyaml."""
    monkeypatch.setattr(nodes, "_LOADER", yaml.SafeLoader)
    found = [name + problem for problem in problems(DATA / name)]
    if name in LIBYAML:
        assert len(found) == 1
        assert "is not valid YAML: " in found[0]
    else:
        assert found == BAD[name]


def test_every_bad_file_is_in_the_table() -> None:
    """Once, in the order of their names, and the other way round."""
    assert [path.name for path in sorted(DATA.glob("bad-*.yaml"))] == list(BAD)


def test_a_small_file_is_enough() -> None:
    """One proxy, one address, one server: the rest is defaults."""
    assert load(str(DATA / "good-minimal.yaml")) == Config(
        proxies={
            "a": ProxyConfig(
                listen=(Address("127.0.0.1", 6443),), servers=(ServerConfig(address=Address("10.4.6.11", 6443)),)
            )
        }
    )


def test_a_file_from_windows_is_the_same() -> None:
    """A byte order mark and CRLF change nothing."""
    assert load(str(DATA / "good-windows.yaml")) == load(str(DATA / "good-minimal.yaml"))


def test_things_may_be_written_in_several_ways() -> None:
    """Numbers in quotes, the booleans of YAML 1.1, one address without a list, and addresses in any spelling."""
    config = load(str(DATA / "good-spellings.yaml"))
    assert (config.workers, config.watch, config.log.access, config.shutdown_timeout) == (2, False, True, 0)
    assert config.node_id == "null"
    proxy = config.proxies["a"]
    assert proxy.listen == (Address("::1", 6443),)
    assert proxy.servers == (
        ServerConfig(address=Address("master1.example.", 6443), name="master1.example.:6443"),
        ServerConfig(address=Address("10.4.6.12", 6443), name="10.4.6.12:6443"),
        ServerConfig(address=Address("fd00::11", 6443), name="[::1]:1", down=True),
    )
    assert proxy.proxy_protocol == "off"
    assert (proxy.connect_timeout, proxy.connect_deadline) == (0.25, 1.5)
    assert (proxy.idle_timeout, proxy.fail_timeout) == (3600, 1.5)
    assert proxy.health == HealthConfig(type="tcp", interval=1, timeout=600)
    assert list(config.proxies) == ["a", "b", "c"]


def test_the_example_files_load() -> None:
    """minimal.yaml is what a node needs; lbproxy.yaml shows everything."""
    minimal = load(str(CONFIG / "minimal.yaml")).proxies["kube-apiserver"]
    assert list(map(str, minimal.listen)) == ["127.0.0.1:6443", "[::1]:6443"]
    assert len(minimal.servers) == 3
    assert minimal.health == HealthConfig(type="https")
    assert load(str(CONFIG / "lbproxy.yaml")).proxies["kube-apiserver"].health == HealthConfig()


def test_what_cannot_be_read_gets_one_line(tmp_path: Path) -> None:
    """A file that is missing, a directory, a loop of links, a FIFO nobody writes to, a device without an end."""
    loop, fifo = tmp_path / "loop", tmp_path / "fifo"
    loop.symlink_to(loop)
    os.mkfifo(fifo)
    assert problems(tmp_path / "missing") == [": cannot be read: No such file or directory"]
    assert problems(tmp_path) == [": cannot be read: a directory"]
    assert problems(loop) == [": cannot be read: Too many levels of symbolic links"]
    assert problems(fifo) == [": cannot be read: not a regular file"]
    assert problems("/dev/zero") == [": cannot be read: not a regular file"]


def test_a_pipe_of_the_callers_is_read_to_its_end_if_it_may_be() -> None:
    """`... | lbproxy check -c /dev/stdin`; the daemon, which reads its file again, takes none."""
    for piped in (True, False):
        ours, theirs = os.pipe()
        try:
            os.write(theirs, b"proxies: {p: {listen: '127.0.0.1:1', servers: ['10.4.6.11:1']}}")
            os.close(theirs)
            assert isinstance(read_file(f"/dev/fd/{ours}", piped=piped).config, Config) == piped
        finally:
            os.close(ours)


def test_a_file_without_permission_gets_one_line(tmp_path: Path) -> None:
    """The usual mistake with a file made by root, who may read everything and becomes somebody else for the test."""
    file = tmp_path / "lbproxy.yaml"
    file.touch(mode=0)
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        assert problems(file) == [": cannot be read: Permission denied"]
    finally:
        os.seteuid(user)


def test_a_file_of_ten_megabytes_is_not_even_parsed(tmp_path: Path) -> None:
    """Nobody writes more than 256 KiB of configuration, and a multi-byte character cut in two is not to blame."""
    file = tmp_path / "large.yaml"
    file.write_text("x: é\n" * (10 << 20 >> 2))
    assert problems(file) == [": cannot be read: larger than 256 KiB"]


def test_a_file_full_of_mistakes_shows_the_first_hundred(tmp_path: Path) -> None:
    """The rest is not looked for: it would take seconds."""
    file = tmp_path / "many.yaml"
    file.write_text("".join(f"key{number}: 1\n" for number in range(1, 1001)))
    found = problems(file)
    assert len(found) == 101
    assert (found[0], found[99]) == (":1: key1: unknown key", ":100: key100: unknown key")
    assert found[-1] == ": has more problems, which were not looked for"
    with pytest.raises(ConfigError, match="not looked for"):
        loads(file.read_text(), "f")


def test_a_hundred_files_that_cannot_be_read_are_enough(tmp_path: Path) -> None:
    """A hundred and one are as bad as a hundred."""
    proxies = "".join(
        f"  p{number}: {{listen: '127.0.0.1:{number + 1}', servers: ['b:1'], health: {{ca_file: /gone}}}}\n"
        for number in range(101)
    )
    file = tmp_path / "lbproxy.yaml"
    file.write_text(f"proxies:\n{proxies}")
    assert problems(file)[-1] == ": has more problems, which were not looked for"


def test_what_is_said_of_a_file_is_said_of_the_bytes_that_were_read(tmp_path: Path) -> None:
    """They are given along, since a second reading may find others."""
    file = tmp_path / "lbproxy.yaml"
    file.write_text("proxies: [")
    reading = read_file(str(file))
    assert reading.content == b"proxies: ["
    assert isinstance(reading.config, ConfigError)
    good = "proxies: {a: {listen: '127.0.0.1:1', servers: ['b:1']}}"
    file.write_text(good)
    assert read_file(str(file)) == Reading(good.encode(), loads(good, "f"))
    file.unlink()
    assert read_file(str(file)).content is None


def test_files_that_are_named_must_be_readable_when_a_file_is_loaded(tmp_path: Path) -> None:
    """Not when a text is: `loads` touches no file."""
    ca = tmp_path / "ca.crt"
    text = f"proxies: {{a: {{listen: '127.0.0.1:1', servers: ['b:1'], health: {{ca_file: {ca}}}}}}}"
    file = tmp_path / "lbproxy.yaml"
    file.write_text(text)
    assert problems(file) == [f":1: proxies.a.health.ca_file: cannot be read: No such file or directory: '{ca}'"]
    ca.touch()
    assert load(str(file)) == loads(text, "f")


def test_the_control_socket_is_found_in_a_file_with_mistakes(tmp_path: Path) -> None:
    """The CLI looks for the daemon with it, which runs on although its file has been broken since."""
    file = tmp_path / "f"
    file.write_text("wokers: 1\ncontrol: /run/a\nproxies: \xff[")
    assert control_of(str(file)) == "/run/a"
    file.write_text("wokers: 1\n")
    assert control_of(str(file)) == DEFAULT_CONTROL
    file.write_text("]")
    assert control_of(str(file)) is None
    with pytest.raises(OSError, match="a directory"):
        control_of(str(tmp_path))


def test_a_text_is_named_as_the_caller_says() -> None:
    """`loads` has no file of its own."""
    with pytest.raises(ConfigError, match=r"^stdin: is empty$"):
        loads("", "stdin")


@settings(max_examples=50)
@given(configs(), st.booleans(), st.sampled_from([True, False, None]), st.booleans(), st.booleans())
def test_a_configuration_written_as_yaml_loads_back_equal(
    config: Config, terse: bool, flow: bool | None, ordered: bool, unicode: bool
) -> None:
    """In block and flow style, with defaults given or left out, keys in any order."""
    text = yaml.safe_dump(
        written(config, terse=terse), default_flow_style=flow, sort_keys=ordered, allow_unicode=unicode, width=40
    )
    loaded = loads(text, "f")
    assert loaded == config
    assert ordered or list(loaded.proxies) == list(config.proxies)


def outcome(data: bytes) -> Config | ConfigError:
    """Load `data` from a file."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            return load(file.name)
        except ConfigError as error:
            return error


@given(st.binary() | st.text().map(str.encode))
def test_random_bytes_are_refused_in_words(data: bytes) -> None:
    """Never with a traceback."""
    assert isinstance(outcome(data), ConfigError)


SEEDS = [path.read_bytes() for path in (*sorted(DATA.glob("*.yaml")), CONFIG / "lbproxy.yaml")]


@given(
    st.sampled_from(SEEDS),
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=4) | st.sampled_from(SEEDS)), max_size=4
    ),
)
def test_a_damaged_file_gives_a_configuration_or_problems(data: bytes, damages: list[tuple[float, int, bytes]]) -> None:
    """Bytes cut out and others put in, whole files inside others."""
    for where, cut, put in damages:
        at = int(where * len(data))
        data = data[:at] + put + data[at + cut :]
    found = outcome(data)
    if isinstance(found, ConfigError):
        assert found.problems
        assert len(str(found).splitlines()) == len(found.problems)
    else:
        assert found.proxies
        assert all(proxy.listen and (proxy.servers or proxy.servers_from) for proxy in found.proxies.values())


@settings(max_examples=50)
@given(configs(), st.data())
def test_one_wrong_value_is_one_problem_at_its_place(config: Config, data: st.DataObject) -> None:
    """Whatever else is in the file, and a value that is wrong makes nothing else wrong."""
    plain = written(config, terse=False)
    node, place, key = plain, "", data.draw(st.sampled_from(sorted(plain)))
    while isinstance(node[key], (dict, list)):
        place = f"{place}[{key}]" if isinstance(node, list) else f"{place}.{key}".lstrip(".")
        node = node[key]
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
    place = f"{place}[{key}]" if isinstance(node, list) else f"{place}.{key}".lstrip(".")
    node[key] = "\x07"
    with pytest.raises(ConfigError) as caught:
        loads(yaml.safe_dump(plain), "f")
    assert [problem.path for problem in caught.value.problems] == [place]
