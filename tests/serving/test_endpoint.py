"""A broker's URL: what it may hold, what the environment adds, and that no password is ever in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from xedge.core.exceptions import ConfigurationError
from xedge.scenario.placements import External
from xedge.serving.endpoint import Endpoint

SECRET = "correct-horse"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://localhost", ("localhost", 1883)),
        ("mqtt://[::1]:1884", ("::1", 1884)),
        ("mqtts://host", ("mqtts://host:8883", 8883)),
        ("mqtt://press-7@host", ("mqtt://press-7@host:1883", 1883)),
        ("mqtts://a%40b@host?ca=/c.crt&alpn=mqtt", ("mqtts://a%40b@host:8883?ca=/c.crt&alpn=mqtt", 8883)),
        ("wss://host/mqtt", ("wss://host:443/mqtt", 443)),
    ],
)
def test_an_address_is_host_and_port_or_a_url_where_that_says_more(url, address):
    at = Endpoint.read(url)
    assert at.address == address
    assert Endpoint.at(*at.address) == at == Endpoint.read(at.url)


def test_files_are_found_from_another_folder_too(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    at = Endpoint.read("mqtts://u@host?ca=ca.crt", password_file="p", cert="")
    assert (at.ca, at.password_file, at.cert) == (str(tmp_path / "ca.crt"), str(tmp_path / "p"), "")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"mqtts://user:{SECRET}@host", "a password in a URL"),
        (f"mqtts://user:{SECRET[:7]}/{SECRET[7:]}@host", "no such URL"),
        (f"mqtts://user@host?password={SECRET}", "there is no password="),
        ("mqtts://host?cafile=x", "did you mean password_file|it takes user, ca, cert"),
        ("mqtt://host?ca=x", "ca= is for TLS; write mqtts://"),
        ("mqtt://host?password_file=x", "a password, but no user"),
        ("https://host", "write mqtt://host:port"),
        ("mqtts://host/topic", "write mqtt://host:port"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_without_a_password_in_the_message(url, says):
    with pytest.raises(ConfigurationError, match=says) as refusal:
        Endpoint.read(url)
    assert not [part for part in (SECRET, SECRET[:7], SECRET[7:]) if part in str(refusal.value)]


def test_an_external_service_refuses_a_password_before_the_scenario_can_be_saved():
    with pytest.raises(ConfigurationError, match="a password in a URL") as refusal:
        External(broker=f"mqtts://user:{SECRET}@host")
    assert SECRET not in str(refusal.value)


def test_the_environment_says_what_the_url_does_not(monkeypatch, tmp_path):
    for name, value in {"USER": "u", "CA": "/ca", "CERT": "/c", "KEY": "/k", "PASSWORD": SECRET}.items():
        monkeypatch.setenv(f"XEDGE_BROKER_{name}", value)
    at = Endpoint.read("mqtts://host?ca=/other")
    assert (at.user, at.ca, at.cert, at.key, at.password()) == ("u", "/other", "/c", "/k", SECRET)
    assert SECRET not in f"{at!r} {at} {at.url} {at.address}"
    plain = Endpoint.read("mqtt://host")
    assert (plain.user, plain.ca, plain.password()) == ("u", "", SECRET)
    (tmp_path / "p").write_text("from-a-file\n")
    monkeypatch.setenv("XEDGE_BROKER_PASSWORD_FILE", str(tmp_path / "p"))
    assert Endpoint.read("mqtts://host").password() == "from-a-file"
    assert Endpoint.read("mqtts://host?password_env=HOME").password() == str(Path.home())


def test_the_environments_password_is_only_for_the_broker_that_the_environment_names(monkeypatch):
    monkeypatch.setenv("XEDGE_BROKER", "mqtts://u@host")
    monkeypatch.setenv("XEDGE_BROKER_PASSWORD", SECRET)
    assert Endpoint.read("mqtts://other@host:8883").password() == SECRET
    assert Endpoint.read("mqtts://u@elsewhere").password() is None
    assert Endpoint.read("mqtts://u@host:8884").password() is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"password_file": "/nowhere"}, "/nowhere: No such file"),
        ({"password_env": "XEDGE_NO_SUCH_VARIABLE"}, "XEDGE_NO_SUCH_VARIABLE is not set"),
    ],
)
def test_a_password_that_is_not_there(options, says):
    with pytest.raises(ConfigurationError, match=says):
        Endpoint.read("mqtts://u@host", **options).password()


@pytest.mark.parametrize("name", ["ca", "cert"])
def test_a_file_that_holds_no_certificate_is_named(name, tmp_path):
    (tmp_path / "x").write_text("nonsense")
    with pytest.raises(ConfigurationError, match=f"{tmp_path / 'x'} is not a"):
        Endpoint.read("mqtts://host", **{name: str(tmp_path / "x")}).tls()
