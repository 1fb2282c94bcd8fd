"""Scenarios and the checked data they are made of: from Python, from YAML and back."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import pytest

import xedge
from xedge import Cloud, Constant, CsvReplay, Edge, Link, Poisson, Scenario, Trace, Vibration
from xedge.core.config import Config
from xedge.core.exceptions import ConfigurationError
from xedge.scenario.sources import Noise

WORKLOAD = Poisson(rate_hz=10, duration_s=1)
BASE = "model: m\nworkload: {kind: poisson, rate_hz: 10, duration_s: 1}\nplacements: {edge: {tier: edge}}\n"


def scenario(**changes):
    return Scenario(**({"model": "m", "workload": WORKLOAD, "placements": {"edge": Edge()}} | changes))


RICH = scenario(
    placements={
        "edge": Edge(compute_scale=2.5, threads=2, max_batch=1),
        "cloud": Cloud(link=Link.preset("4g-nordic"), device="cuda"),
        "split": Cloud(uplink=Link(jitter_ms=[(0, 0), (0.5, 2), (1, 60)], loss=0.01), downlink=Link(rate_mbps=8)),
    },
    source=CsvReplay(path="a b.csv", columns=["x", "ÿ"]),
    seed=2**40,
    timeout_s=1.25,
    qos=1,
    encoding="msgpack",
    topic_prefix="läb/7",
    thresholds=["edge.p99_ms > 20"],
)


@pytest.mark.parametrize(
    "original",
    [
        scenario(),
        RICH,
        scenario(workload=Constant(rate_hz=0.1, duration_s=20), source=Noise()),
        scenario(workload=Trace(due_s=[0, 0.125, 2]), source=Vibration()),
        scenario(model="no", topic_prefix="1"),  # YAML's traps
    ],
)
def test_scenario_makes_a_round_trip_through_yaml(tmp_path, original):
    path = tmp_path / "scenario.yaml"
    path.write_text(original.to_yaml(), encoding="utf-8")
    assert Scenario.from_yaml(path) == Scenario.from_yaml(str(path)) == original


def test_scenario_as_dict_is_plain_json():
    data = RICH.as_dict()
    assert json.loads(json.dumps(data)) == data
    assert Scenario.from_dict(data) == RICH
    assert data["placements"]["edge"]["tier"] == "edge"


def test_scenario_from_yaml_fills_in_the_defaults(tmp_path):
    path = tmp_path / "scenario.yaml"
    path.write_text(BASE)
    read = Scenario.from_yaml(path)
    assert read == scenario()
    assert (read.source, read.seed, read.timeout_s, read.qos) == (None, 0, 5.0, 0)
    assert (read.encoding, read.topic_prefix) == ("json", "")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("model: m", "", "model"),
        ("model: m", "model: 7", "model"),
        ("model: m", "model: 2020-01-01", "model"),
        ("model: m", "modell: m", "modell"),
        ("model: m", "model: m\nsed: 1", "sed"),
        ("model: m", "model: m\nseed: x", "seed"),
        ("model: m", "model: m\nseed: -1", "seed"),
        ("model: m", "model: m\nseed: 1.5", "seed"),
        ("model: m", "model: m\nqos: 2", "qos"),
        ("model: m", "model: m\nqos: true", "qos"),
        ("model: m", "model: m\nencoding: xml", "encoding"),
        ("model: m", "model: m\nthresholds: edge.p99_ms > 2", "thresholds"),
        ("model: m", "model: m\nthresholds: [edge.p99_ms]", "threshold 'edge.p99_ms' cannot be read"),
        ("model: m", "model: m\ntimeout_s: 0", "timeout_s"),
        ("model: m", "model: m\ntimeout_s: 3601", "timeout_s"),
        ("model: m", "model: m\ntimeout_s: .inf", "timeout_s"),
        ("model: m", "model: m\ntopic_prefix: null", "topic_prefix"),
        ("model: m", "model: m\nsource: {kind: csv}", "source"),
        ("model: m", "model: m\nsource: {kind: tea}", "source.kind"),
        ("model: m", "model: m\nsource: {}", "source"),
        ("poisson", "gauss", "workload.kind"),
        ("kind: poisson, ", "", "workload"),
        ("rate_hz: 10", "rate_hz: fast", "workload.rate_hz"),
        ("rate_hz: 10", "rate_hz: 0", "workload.rate_hz"),
        ("rate_hz: 10", "rate_hz: .nan", "workload.rate_hz"),
        ("rate_hz", "rate", "rate"),
        ("kind: poisson, rate_hz: 10, duration_s: 1", "kind: trace, due_s: []", "workload"),
        ("kind: poisson, rate_hz: 10, duration_s: 1", "kind: trace, due_s: [2, 1]", "workload"),
        ("tier: edge", "tier: fog", "placements[...].tier"),
        ("tier: edge", "threads: 1", "placements"),
        ("tier: edge", "tier: edge, threads: 0", "threads"),
        ("tier: edge", "tier: edge, compute_scale: 0.5", "compute_scale"),
        ("tier: edge", "tier: edge, max_batch: 0", "max_batch"),
        ("tier: edge", "tier: edge, device: cuda", "device"),
        ("tier: edge", "tier: cloud, device: tpu", "device"),
        ("tier: edge", "tier: edge, link: fiber", "link"),
        ("tier: edge", "tier: edge, link: {delay: 3}", "delay"),
        ("tier: edge", "tier: edge, link: {delay_ms: -3}", "link.delay_ms"),
        ("tier: edge", "tier: edge, link: {loss: 1}", "link.loss"),
        ("tier: edge", "tier: edge, uplink: {jitter_ms: [[0, 5], [1, 2]]}", "uplink"),
        ("tier: edge", "tier: edge, link: {}, downlink: {}", "placements"),
        ("tier: edge", "tier: edge, link: {delay_ms: 2500}", "'edge'"),
        ("{edge: {tier: edge}}", "{}", "placements"),
        ("{edge: {tier: edge}}", "[edge]", "placements"),
        ("{edge: {tier: edge}}", "{1: {tier: edge}}", "placements"),
        (BASE, "", "object"),
        (BASE, "- 1", "object"),
        (BASE, "a: [", "line 2, column 1"),
        (BASE, "a: b: c", "line 1, column 5"),
        (BASE, "!!python/object/apply:os.getcwd []", "line 1, column 1"),
        (BASE, "model: \x00", "position"),
        (BASE, "model: *unknown", "line 1"),
        (BASE, "model: 2020-13-45", "month"),
    ],
)
def test_scenario_from_yaml_names_the_file_and_the_place_of_a_mistake(tmp_path, old, new, place):
    path = tmp_path / "wrong.yaml"
    assert old in BASE
    path.write_text(BASE.replace(old, new))
    with pytest.raises(ConfigurationError) as caught:
        Scenario.from_yaml(path)
    message = str(caught.value)
    assert message.startswith(f"scenario {path}: ")
    assert place in message.removeprefix(f"scenario {path}: ")


@pytest.mark.parametrize(("name", "says"), [("none.yaml", "No such file"), ("", "directory")])
def test_scenario_from_yaml_of_no_file_names_it(tmp_path, name, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        Scenario.from_yaml(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": None}, "Scenario(model=None): Expected `str`"),
        ({"encoding": "jason"}, "Scenario(encoding='jason'): give json or msgpack; did you mean json?"),
        ({"placements": [Edge()]}, "give placements by name, as {'edge': xedge.Edge(), 'cloud': xedge.Cloud()}"),
        ({"model": Path("m")}, "Scenario(model="),
        ({"workload": 5}, "Scenario(workload=5)"),
        ({"workload": Edge()}, "Scenario(workload="),
        ({"placements": {}}, "at least one"),
        ({"placements": {"e": 1}}, "Scenario(placements={'e': 1})"),
        ({"placements": {"e": Noise()}}, "Scenario(placements="),
        ({"placements": [Edge()]}, "Scenario(placements="),
        ({"placements": {1: Edge()}}, "Scenario(placements="),
        ({"placements": {"far": Cloud(link=Link(delay_ms=3000))}}, "placement 'far': its links alone take 6000 ms"),
        ({"placements": {"far": Cloud()}, "timeout_s": 0.1}, "over timeout_s=0.1"),
        ({"source": "nois"}, "source 'nois': give vibration, noise or texts"),
        ({"source": 5}, "Scenario(source=5)"),
        ({"seed": -1}, "Scenario(seed=-1)"),
        ({"seed": True}, "Scenario(seed=True)"),
        ({"seed": 1.0}, "Scenario(seed=1.0)"),
        ({"timeout_s": 0}, "Scenario(timeout_s=0)"),
        ({"timeout_s": math.nan}, "Scenario(timeout_s=nan)"),
        ({"qos": 2}, "Scenario(qos=2)"),
        ({"encoding": "JSON"}, "Scenario(encoding='JSON')"),
        ({"topic_prefix": "a/#"}, "topic"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_scenario_names_the_field_of_a_mistake(changes, says):
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        scenario(**changes)


@pytest.mark.parametrize("kind", [Edge, Cloud])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threads", 0),
        ("threads", 1.5),
        ("max_batch", 0),
        ("compute_scale", 0.99),
        ("compute_scale", math.nan),
        ("compute_scale", math.inf),
        ("link", "fiber"),
        ("uplink", 5),
        ("downlink", Edge()),
    ],
)
def test_placement_names_the_field_of_a_mistake(kind, field, value):
    with pytest.raises(ConfigurationError, match=rf"{kind.__name__}\({field}="):
        kind(**{field: value})


@pytest.mark.parametrize("kind", [Edge, Cloud])
@pytest.mark.parametrize("other", ["uplink", "downlink"])
def test_placement_refuses_a_link_given_twice(kind, other):
    with pytest.raises(ConfigurationError, match=f"{kind.__name__}: give link .* not both"):
        kind(link=Link(), **{other: Link()})


UP, DOWN = Link(delay_ms=1), Link(delay_ms=2)


@pytest.mark.parametrize(
    ("placement", "links"),
    [
        (Edge(), (Link(), Link())),
        (Edge(link=UP), (UP, UP)),
        (Edge(uplink=UP), (UP, Link())),
        (Edge(downlink=DOWN), (Link(), DOWN)),
        (Cloud(), (Link(delay_ms=50), Link(delay_ms=50))),
        (Cloud(link=UP), (UP, UP)),
        (Cloud(link=Link()), (Link(), Link())),
        (Cloud(uplink=UP), (UP, Link())),
        (Cloud(uplink=UP, downlink=DOWN), (UP, DOWN)),
    ],
)
def test_placement_has_an_uplink_and_a_downlink(placement, links):
    assert placement.links == links


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: Edge(run_in="procces"), "give thread, process or container; did you mean process?"),
        (lambda: Cloud(link=20), "Cloud(link=20): give a link, as xedge.Link(delay_ms=20) or xedge.Link.preset("),
        (lambda: Poisson(rate=3, duration_s=1), "no rate; it takes rate_hz=, duration_s=; did you mean rate_hz=?"),
        (lambda: Poisson(rate_hz=3), "Poisson: give duration_s= too; it takes rate_hz=, duration_s="),
        (lambda: Poisson(3, 4), "Poisson: give its values by name; it takes rate_hz=, duration_s="),
        (lambda: Vibration(noise=3), "Vibration: there is no noise; it takes nothing"),
    ],
)
def test_mistake_is_answered_with_the_choices(wrong, says):
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        wrong()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("tier: edge", "tier: edge, run_in: procces", "thread, process or container; did you mean process? at `"),
        ("tier: edge", "tier: edge, link: 20", "give a link, as xedge.Link(delay_ms=20) or"),
        ("tier: edge", "tier: edge, treads: 2", "unknown field `treads`; it takes model, link, "),
        ("rate_hz", "rate", "did you mean rate_hz? at `workload`"),
        ("{edge: {tier: edge}}", "[edge]", "give placements by name"),
        ("model: m", "model: m\nencoding: jsn", "give json or msgpack; did you mean json? at `encoding`"),
        ("model: m", "modell: m", "did you mean model?"),
    ],
)
def test_mistake_in_yaml_is_answered_with_the_choices(tmp_path, old, new, says):
    (tmp_path / "s.yaml").write_text(BASE.replace(old, new))
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        Scenario.from_yaml(tmp_path / "s.yaml")


@pytest.mark.parametrize("unknown", [lambda: Edge(device="cpu"), lambda: scenario(sed=1), lambda: Link(delay=5)])
def test_unknown_keyword_is_refused(unknown):
    with pytest.raises((TypeError, ConfigurationError), match=r"device|sed|delay"):
        unknown()


@pytest.mark.parametrize(
    ("value", "field"),
    [(scenario(), "seed"), (Edge(), "threads"), (Link(), "delay_ms"), (WORKLOAD, "rate_hz"), (Noise(), "anything")],
)
def test_config_is_frozen(value, field):
    with pytest.raises(AttributeError):
        setattr(value, field, 1)


def test_config_with_equal_data_is_equal_and_hashes_alike():
    assert Edge(link=Link(delay_ms=3)) == Edge(link=Link(delay_ms=3.0)) != Edge(link=Link(delay_ms=4))
    assert hash(WORKLOAD) == hash(Poisson(rate_hz=10.0, duration_s=1))


@pytest.mark.parametrize("number", [np.int64(7), np.int8(7), np.array(7)], ids=lambda n: type(n).__name__)
def test_config_takes_numpy_numbers_as_plain_ones(number):
    seed, rate = scenario(seed=number).seed, Poisson(rate_hz=number, duration_s=np.float32(0.5))
    assert (type(seed), seed) == (int, 7)
    assert (type(rate.rate_hz), rate) == (float, Poisson(rate_hz=7, duration_s=0.5))


@pytest.mark.parametrize(
    "value", [np.bool_(True), np.array([7]), np.float64("nan"), np.str_("7"), np.float64(7)], ids=repr
)
def test_config_checks_numpy_numbers_like_plain_ones(value):
    with pytest.raises(ConfigurationError, match=r"Scenario\(seed="):
        scenario(seed=value)


class Pair(Config, frozen=True, kw_only=True):
    low: Annotated[int, msgspec.Meta(ge=0)] = 0
    high: int = 9

    def check(self):
        if self.low > self.high:
            raise ConfigurationError("low is over high")


@pytest.mark.parametrize(
    ("fields", "says"),
    [({"low": 10}, "over high"), ({"low": -1, "high": -2}, r"Pair\(low=-1\)"), ({"high": "9"}, "str")],
)
def test_config_checks_fields_first_and_then_what_they_mean_together(fields, says):
    with pytest.raises(ConfigurationError, match=says):
        Pair(**fields)
    with pytest.raises(msgspec.ValidationError, match=says.replace(r"Pair\(low=-1\)", "low")):
        msgspec.convert(fields, Pair)


def test_scenario_in_the_docs_can_be_written():
    preset = xedge.Scenario(
        model="anomaly_detector",
        workload=xedge.Poisson(rate_hz=200, duration_s=20),
        placements={"edge": xedge.Edge(), "cloud": xedge.Cloud(link=xedge.Link.preset("cloud-europe"))},
        seed=7,
    )
    assert list(preset.placements) == ["edge", "cloud"]
    assert preset.placements["cloud"].links[0].delay_ms == pytest.approx(35.2 / 2)


def with_links(tmp_path, links):
    path = tmp_path / "scenario.yaml"
    path.write_text(f"{BASE}  # one more\n".replace("{edge: {tier: edge}}", f"{{cloud: {{tier: cloud, {links}}}}}"))
    return Scenario.from_yaml(path)


@pytest.mark.parametrize(
    ("links", "up", "down"),
    [
        ("link: {preset: cable}", Link.preset("cable"), Link.preset("cable", "downlink")),
        ("uplink: {preset: lte}, downlink: {delay_ms: 3}", Link.preset("lte"), Link(delay_ms=3)),
        ("uplink: {delay_ms: 3}, downlink: {preset: dsl}", Link(delay_ms=3), Link.preset("dsl", "downlink")),
        *[
            (f"link: {{preset: cloud-asia, client: {client}}}", *[Link.preset("cloud-asia", client=client)] * 2)
            for client in (0.05, 0.9)
        ],
    ],
)
def test_link_preset_in_yaml_is_the_published_network_each_way(tmp_path, links, up, down):
    read = with_links(tmp_path, links)
    assert read.placements["cloud"].links == (up, down)
    assert Scenario.from_dict(read.as_dict()) == read


@pytest.mark.parametrize(
    ("links", "word"),
    [
        ("link: {preset: cabel}", "there are cloud-europe"),
        ("link: {preset: cable, loss: 0.1}", "not loss"),
        ("link: {preset: cable, client: near}", "'near'"),
        ("link: {preset: cloud-asia, client: 2}", "clients 0.05 to 0.99"),
        ("link: {preset: cable}, uplink: {delay_ms: 3}", "link and uplink"),
    ],
)
def test_link_preset_in_yaml_that_cannot_be_meant(tmp_path, links, word):
    with pytest.raises(ConfigurationError, match="placements") as caught:
        with_links(tmp_path, links)
    assert word in str(caught.value)
