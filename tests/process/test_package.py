"""The packages, installed in a box with a real systemd by dpkg and rpm themselves.

`make deb` stages what they are made of. LBPROXY_TEST_ROOT names the root of another distribution to install them in.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import kubespray
from tests.support.daemon import one_proxy
from tests.support.need import need
from tests.support.packages import Packaged, Packages
from tests.support.ports import free_port
from tests.support.streams_checked import Numbered
from tests.support.wait import until

DOC = "/usr/share/doc/lbproxy"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Make the packages; the directory may be read by the service's account."""
    directory = tmp_path_factory.mktemp("packages")
    return Packages(directory)


@pytest.fixture
def streams() -> Iterator[Numbered]:
    """Run a server for streams."""
    with Numbered() as running:
        yield running


def port_of(config: dict[str, Any]) -> int:
    """Return the port of the one proxy."""
    return int(config["proxies"]["p"]["listen"][0].rpartition(":")[2])


def test_a_first_installation_is_enabled_and_waits_for_its_configuration(packages: Packages, streams: Numbered) -> None:
    """It says what to do; then it is the compiled form that runs, under its own account."""
    with Packaged(packages) as box:
        said = box.dpkg("-i", packages.pack("deb"))
        assert "write /etc/lbproxy/lbproxy.yaml" in said
        assert (box.show("UnitFileState"), box.show("ActiveState")) == ("enabled", "inactive")
        box.configure(one_proxy([streams.address]))
        box.start()
        status = box.status()
        assert (status["version"], status["form"]) == (packages.version, "compiled")
        words = f"lbproxy {packages.version} (compiled, Python {status['python']})"
        assert box.lbproxy("--version").stdout == f"{words}\n"
        assert f"{words} listening on" in box.log()
        assert box.run("stat", "-c", "%U", f"/proc/{box.pid()}").stdout == "lbproxy\n"
        for document in box.show("Documentation").split():
            assert box.run("test", "-s", document.removeprefix("file://"), check=False).returncode == 0


def test_with_a_configuration_that_is_there_it_starts(packages: Packages, streams: Numbered) -> None:
    """As where a tool writes the file first."""
    with Packaged(packages) as box:
        box.configure(one_proxy([streams.address]))
        box.dpkg("-i", packages.pack("deb"))
        assert box.show("ActiveState") == "active"


def test_another_version_takes_the_open_connections_over(packages: Packages, streams: Numbered) -> None:
    """A thousand, to a newer version and back to the older one; never a restart, and the port never refuses."""
    with Packaged(packages) as box:
        config = one_proxy([streams.address])
        box.configure(config)
        box.dpkg("-i", packages.pack("deb"))
        streams.open(port_of(config), held=980, steady=20)
        streams.visit(port_of(config), per_second=50)
        for version in ("9.9.9", packages.version):
            said = box.dpkg("-i", packages.pack("deb", "" if version == packages.version else version))
            assert f"lbproxy {version} has taken over" in said
            assert box.status()["version"] == version
            assert len(box.conns()) >= 1000
            streams.progress()
        visits = streams.stop_visits()
        assert (visits.refused, visits.cut) == (0, 0)
        report = streams.finish()
        assert (report.cut, report.wrong, report.intact) == ([], [], 1000)
        assert box.show("NRestarts") == "0"


def test_a_configuration_that_the_new_version_refuses_keeps_the_old_one(packages: Packages, streams: Numbered) -> None:
    """The package is installed all the same, and says what to do; no connection notices."""
    with Packaged(packages) as box:
        config = one_proxy([streams.address])
        box.configure({**config, "watch": False})
        box.dpkg("-i", packages.pack("deb"))
        streams.open(port_of(config), steady=5)
        box.write("/etc/lbproxy/lbproxy.yaml", "proxies: 7\n")
        said = box.dpkg("-i", packages.pack("deb", "9.9.9"))
        assert "lbproxy.yaml:1: proxies" in said
        assert "then run: lbproxy upgrade" in said
        assert box.status()["version"] == packages.version
        streams.progress()
        box.configure(config)
        assert "lbproxy 9.9.9 has taken over" in box.lbproxy("upgrade").stdout
        streams.progress()
        assert streams.finish().intact == 5


def test_a_stopped_or_disabled_service_stays_so(packages: Packages, streams: Numbered) -> None:
    """What the administrator has decided holds over an upgrade."""
    with Packaged(packages) as box:
        box.configure(one_proxy([streams.address]))
        box.dpkg("-i", packages.pack("deb"))
        box.systemctl("disable", "--now")
        box.dpkg("-i", packages.pack("deb", "9.9.9"))
        assert (box.show("UnitFileState"), box.show("ActiveState")) == ("disabled", "inactive")


def test_removal_stops_it_and_a_purge_leaves_the_account_alone(packages: Packages, streams: Numbered) -> None:
    """No unit, file, process or socket; the configuration goes with the purge."""
    with Packaged(packages) as box:
        package = packages.pack("deb")
        before = box.files()
        box.configure(one_proxy([streams.address]))
        box.dpkg("-i", package)
        streams.open(port_of_status(box), steady=3)
        box.dpkg("-r", "lbproxy")
        assert box.run("pgrep", "-u", "lbproxy", check=False).stdout == ""
        assert box.run("test", "-e", "/etc/lbproxy/lbproxy.yaml", check=False).returncode == 0
        box.dpkg("-P", "lbproxy")
        assert box.run("systemctl", "list-units", "--all", "--no-legend", "lbproxy*").stdout == ""
        assert box.run("systemctl", "list-unit-files", "--no-legend", "lbproxy*", check=False).stdout == ""
        accounts = {f"/etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow")}
        until(lambda: box.files() - before - accounts == set(), "nothing is left")
        assert before - box.files() == set()
        assert "lbproxy" in box.run("getent", "passwd", "lbproxy").stdout


def port_of_status(box: Packaged) -> int:
    """Return the port that the running service listens on."""
    return int(box.status()["proxies"]["p"]["listen"][0].rpartition(":")[2])


def test_what_is_shipped_is_listed_and_licensed(packages: Packages) -> None:
    """The bill of materials names every distribution in the tree, with its licence, whose text is there too."""
    with Packaged(packages) as box:
        box.dpkg("-i", packages.pack("deb"))
        bill = json.loads(box.run("cat", f"{DOC}/sbom.cdx.json").stdout)
        shipped = box.run("find", "/usr/lib/lbproxy", "-name", "*.dist-info", "-printf", "%f\n").stdout.split()
        listed = [bill["metadata"]["component"], *bill["components"]]
        names = {f"{part['name']}-{part['version']}.dist-info".replace("-", "_") for part in listed}
        assert names == {name.lower().replace("-", "_") for name in shipped}
        assert all(part["licenses"][0]["expression"] for part in listed)
        text = box.run("cat", f"{DOC}/copyright").stdout
        assert all(f"\n{part['name']} {part['version']}: " in text for part in listed)


def test_what_the_node_had_before_is_imported_with_nothing_else_installed(packages: Packages) -> None:
    """Crossplane is in the package."""
    with Packaged(packages) as box:
        box.dpkg("-i", packages.pack("deb"))
        for name, renderer in kubespray.RENDERERS.items():
            box.write(f"/root/{name}", renderer(kubespray.masters(3, "v4")))
            box.run("sh", "-c", f"lbproxy import --strict /root/{name} >/etc/lbproxy/lbproxy.yaml")
            assert box.lbproxy("check").stdout == "/etc/lbproxy/lbproxy.yaml: ok\n"


def test_the_rpm_does_as_the_deb(packages: Packages, streams: Numbered) -> None:
    """Its scripts are called with other words: installed, handed over to a newer one and back, removed."""
    need("rpm")
    first, second = packages.pack("rpm"), packages.pack("rpm", "9.9.9")
    with Packaged(packages) as box:
        if box.run("which", "rpm", check=False).returncode:
            pytest.skip("no rpm in there")
        config = one_proxy([streams.address])
        box.configure(config)
        install = ("rpm", "-U", "--nodeps", "--oldpackage")  # what it depends on came by dpkg
        box.run(*install, first)
        assert (box.show("UnitFileState"), box.show("ActiveState")) == ("enabled", "active")
        streams.open(port_of(config), held=50, steady=20)
        for package, version in ((second, "9.9.9"), (first, packages.version)):
            done = box.run(*install, package)
            assert f"lbproxy {version} has taken over" in done.stdout
            streams.progress()
        assert streams.finish().intact == 70
        assert box.show("NRestarts") == "0"
        box.run("rpm", "-e", "lbproxy")
        assert box.run("systemctl", "list-unit-files", "--no-legend", "lbproxy*", check=False).stdout == ""
        assert box.run("test", "-e", "/usr/lib/lbproxy", check=False).returncode == 1


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_a_package_has_man_pages_and_completions_where_they_are_looked_for(packages: Packages, kind: str) -> None:
    """And the place for the socket of those who may only look."""
    need("rpm")
    command = ["dpkg-deb", "--contents"] if kind == "deb" else ["rpm", "-qpl"]
    done = subprocess.run([*command, packages.file(kind)], capture_output=True, text=True, check=True)
    listed = {"/" + line.rpartition(" ")[2].lstrip("./") for line in done.stdout.splitlines()}
    share = (
        "man/man1/lbproxy.1.gz", "man/man5/lbproxy.yaml.5.gz", "bash-completion/completions/lbproxy",
        "zsh/vendor-completions/_lbproxy", "zsh/site-functions/_lbproxy", "fish/vendor_completions.d/lbproxy.fish",
    )  # fmt: skip
    assert {"/usr/lib/tmpfiles.d/lbproxy.conf", *(f"/usr/share/{name}" for name in share)} <= listed


def test_the_rpm_owns_only_what_is_its_own(packages: Packages) -> None:
    """A directory of the system in its list would be a conflict with the package that it belongs to."""
    need("rpm")
    listed = subprocess.run(
        ["rpm", "-qpl", packages.file("rpm")], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    system = {"", "/etc", "/usr", "/usr/bin", "/usr/lib", "/usr/lib/systemd", "/usr/lib/systemd/system", "/usr/share",
              "/usr/share/doc", "/usr/share/man", "/usr/share/man/man1", "/usr/lib/sysusers.d",
              "/usr/lib/tmpfiles.d", "/usr/share/bash-completion", "/usr/share/zsh", "/usr/share/fish"}  # fmt: skip
    assert not system & set(filter(None, listed))


def test_the_bundle_installs_without_a_network(packages: Packages) -> None:
    """By the line that is in it; every wheel is what its hash says."""
    with Packaged(packages, bundle=True) as box:
        if box.run("python3", "-c", "import ensurepip", check=False).returncode:
            pytest.skip("no python3-venv in there")
        box.run("sh", "-c", "mkdir /srv/new && tar xzf /srv/bundle.tar.gz --strip-components=1 -C /srv/new")
        script = (line.strip() for line in box.run("cat", "/srv/new/INSTALL").stdout.splitlines() if line[:4] == "    ")
        commands = "\n".join(line for line in script if not line.startswith("lbproxy check"))
        box.run("unshare", "--net", "sh", "-ec", f"cd /srv/new\n{commands}")
        assert box.lbproxy("check").stdout == "/etc/lbproxy/lbproxy.yaml: ok\n"
        assert "(compiled, " in box.lbproxy("--version").stdout


def test_at_rest_it_is_small(packages: Packages, streams: Numbered) -> None:
    """As README says, in README's configuration with the admin endpoint; what others map of the same files is less."""
    with Packaged(packages) as box:
        admin = f"127.0.0.1:{free_port()}"
        box.configure(one_proxy([streams.address], health={"type": "https"}) | {"admin": {"listen": admin}})
        box.dpkg("-i", packages.pack("deb"))
        until(lambda: "state" in box.run("curl", "-fsS", f"http://{admin}/status").stdout, "it shows itself")
        until(lambda: next(iter(box.status()["proxies"]["p"]["servers"].values()))["state"] == "down", "it checks", 30)
        assert box.memory() <= 28 * 1024  # 25.3 MiB with Debian 12's Python; the rest is for others
