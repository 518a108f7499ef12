"""Kubeconfigs: what is in them, and in the files that they name."""

from __future__ import annotations

import ssl
from base64 import b64encode
from pathlib import Path

import pytest

from lbproxy.errors import LbproxyError
from lbproxy.sources.kubeconfig import read
from tests.support.certs import Certs
from tests.support.kubernetes import kubeconfig


def test_a_token_is_read_from_its_file_each_time(tmp_path: Path, certs: Certs) -> None:
    """A bound token is replaced every hour. Relative names are from where the kubeconfig is."""
    (tmp_path / "token").write_text("one\n")
    file = kubeconfig(tmp_path / "k", certs, tokenFile="token")
    first = read(file)
    assert (first.token, first.name, first.host) == ("one", "localhost", "localhost:6443")
    assert first.context.verify_mode == ssl.CERT_REQUIRED
    (tmp_path / "token").write_text("two")
    assert read(file)[3] == "two"


def test_certificates_stand_in_it_or_in_files(tmp_path: Path, certs: Certs) -> None:
    """The kubelet has both in one file, kubeadm's admin.conf has them inline."""
    read(kubeconfig(tmp_path / "a", certs, client_certificate=str(certs.client), client_key=str(certs.client)))
    inline = b64encode(certs.client.read_bytes()).decode()
    file = kubeconfig(tmp_path / "b", certs, client_certificate_data=inline, client_key_data=inline)
    read(file)
    text = Path(file).read_text()
    ca = b64encode(certs.ca.read_bytes()).decode()
    Path(file).write_text(text.replace(f"certificate-authority: {certs.ca}", f"certificate-authority-data: {ca}"))
    assert read(file).context.get_ca_certs()


def test_the_name_in_tls_may_be_given_and_the_look_at_it_left_out(tmp_path: Path, certs: Certs) -> None:
    """By the words that kubectl knows."""
    file = Path(kubeconfig(tmp_path / "k", certs, token="t"))  # noqa: S106
    text = file.read_text()
    file.write_text(text.replace("server: https", "tls-server-name: kubernetes\n    server: https"))
    assert read(str(file)).name == "kubernetes"
    file.write_text(text.replace("server: https", "insecure-skip-tls-verify: true\n    server: https"))
    assert read(str(file)).context.verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("current-context: c", "current-context: d", "no context 'd'"),
        ("cluster: k\n", "cluster: l\n", "no cluster 'l'"),
        ("user: u\n", "user: v\n", "no user 'v'"),
        ("token: t", "exec: {command: aws}", "a user with exec cannot be used"),
        ("token: t", "username: root", "a user with username cannot be used"),
        ("token: t", "tokenFile: nowhere", "o such file"),
        ("token: t", 'token: "t\\r\\nX: y"', "the token is none"),
        ("token: t", "client-certificate: k", "."),
        ("token: t", "client-certificate-data: '*'", "."),
        ("https://localhost:6443", "http://localhost:6443", "begins with https"),
        ("https://localhost:6443", "https://[", "."),
        ("apiVersion: v1", "{", "not valid YAML"),
        ("apiVersion: v1", "contexts: 5", "duplicate key"),
    ],
)
def test_what_is_wrong_with_one_is_told_in_a_line(tmp_path: Path, certs: Certs, old: str, new: str, why: str) -> None:
    """With its name."""
    file = Path(kubeconfig(tmp_path / "k", certs, token="t"))  # noqa: S106
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(LbproxyError, match=why) as caught:
        read(str(file))
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_one_with_more_mistakes_than_are_counted_is_told_by_its_first(tmp_path: Path) -> None:
    """A file of something else altogether."""
    (tmp_path / "k").write_text("a: 1\n" * 200)
    with pytest.raises(LbproxyError, match="duplicate key"):
        read(str(tmp_path / "k"))
