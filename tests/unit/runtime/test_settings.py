"""What posthouse.toml, the environment and the flags say, and which of them is right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.errors import ConfigError, IllegalNameError
from posthouse.runtime.settings import Settings, load

SECRET = "a very secret word"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_file_everything_lies_in_the_working_directory(here: Path):
    settings = load(environ={})

    assert (settings.env, settings.data) == ("dev", str(here / ".posthouse"))
    assert settings.transport == f"sqlite:{here}/.posthouse"
    assert settings.gateway.bind == "127.0.0.1:8080"


def test_the_file_is_found_from_a_folder_below_it_and_the_data_lies_beside_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
):
    (here / "posthouse.toml").write_text("grace = 5")
    (here / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(here / "a" / "b")

    settings = load(environ={})

    assert settings.grace == 5.0
    assert settings.data == str(here / ".posthouse")


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(here: Path):
    (here / "posthouse.toml").write_text('grace = 1\n[gateway]\nwait = "1s"\nkeep = 1\nbody_limit = "1KiB"')
    environ = {"POSTHOUSE_GATEWAY_WAIT": "2", "POSTHOUSE_GATEWAY_KEEP": "2"}

    gateway = load(overrides={"gateway": {"keep": 3, "bind": None}}, environ=environ).gateway

    assert (gateway.keep, gateway.wait, gateway.body_limit, gateway.bind) == (3, 2.0, 1024, "127.0.0.1:8080")


def test_what_is_not_said_of_a_service_is_none_so_that_the_number_in_the_code_stands():
    settings = load({"services": {"prices": {"capacity": 5}}}, environ={})

    assert settings.service("prices").capacity == 5
    assert settings.service("prices").concurrency is None
    assert settings.service("shop").capacity is None


def test_a_relative_path_belongs_to_the_place_where_it_was_said(here: Path, monkeypatch: pytest.MonkeyPatch):
    (here / "posthouse.toml").write_text('transport = "sqlite:box"')
    (here / "below").mkdir()
    monkeypatch.chdir(here / "below")

    from_file = load(environ={})
    from_flag = load(overrides={"transport": "sqlite:box"}, environ={})

    assert from_file.transport == f"sqlite:{here}/box"
    assert from_flag.transport == f"sqlite:{here}/below/box"


def test_naming_the_data_directory_moves_the_transport_that_lies_in_files_but_no_other(here: Path):
    moved = load({"transport": "sqlite:elsewhere"}, overrides={"data": "d"}, environ={})
    kept = load({"transport": "memory:"}, overrides={"data": "d"}, environ={})

    assert moved.transport == f"sqlite:{here}/d"
    assert kept.transport == "memory:"


def test_lists_and_sizes_are_read_from_text_in_the_environment():
    environ = {"POSTHOUSE_GATEWAY_HOSTS": "a.example, b.example", "POSTHOUSE_GATEWAY_BODY_LIMIT": "2MiB"}

    gateway = load({}, environ=environ).gateway

    assert gateway.hosts == ["a.example", "b.example"]
    assert gateway.body_limit == 2 << 20


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"gatway": {}}, "unknown key 'gatway' (did you mean 'gateway'?)"),
        ({"gateway": {"wiat": 3}}, "unknown key 'gateway.wiat' (did you mean 'gateway.wait'?)"),
        ({"services": {"prices": {"concurency": 3}}}, "did you mean"),
        ({"gateway": {"bind": 8080}}, "gateway.bind = 8080: expected str, got int"),
        ({"gateway": {"wait": "soon"}}, "gateway.wait = 'soon'"),
        ({"gateway": {"wait": float("nan")}}, "gateway.wait = nan"),
        ({"gateway": {"wait": float("inf")}}, "gateway.wait = inf"),
        ({"gateway": {"keep": True}}, "gateway.keep = True: expected int, got bool"),
        ({"gateway": {"body_limit": "1 gallon"}}, "is not a size"),
        ({"gateway": 3}, "gateway is a table"),
        ({"services": {"prices": {"capacity": 0}}}, 'services."prices".capacity = 0: expected int >= 1'),
        ({"services": {"prices": {"overflow": "explode"}}}, "expected one of reject, wait, drop-oldest"),
        ({"env": "production"}, "expected one of dev, test, prod"),
        ({"routes": {"github": {}}}, 'write it as "POST /path"'),
        ({"routes": {"POST /x": {"signature": {"header": "H"}}}}, "has no secret"),
        ({"routes": {"POST /x": {"signature": {"secret": "s"}}}}, "says no `header`"),
        ({"transport": "box"}, "is not a URL"),
    ],
)
def test_a_wrong_value_says_its_key_and_what_is_expected(config: dict[str, object], says: str):
    with pytest.raises(ConfigError) as raised:
        load(config, environ={})

    assert says in str(raised.value)


def test_an_illegal_service_name_is_refused():
    with pytest.raises(IllegalNameError):
        load({"services": {"no name": {}}}, environ={})


def test_an_unknown_variable_is_refused_with_a_suggestion_but_what_is_no_setting_is_left_alone():
    links = {"POSTHOUSE_SERVICE_HOST": "10.0.0.1", "POSTHOUSE_PORT": "tcp://10.0.0.1:80", "POSTHOUSE_PORT_80_TCP": "x"}
    tools = {"POSTHOUSE_REQUIRE_ENGINES": "1", "POSTHOUSE_BENCH_PEERS": "/peers"}

    assert load({}, environ=links | tools) == load({}, environ={})
    with pytest.raises(ConfigError, match="did you mean 'POSTHOUSE_TRANSPORT'"):
        load({}, environ={"POSTHOUSE_TRANPORT": "memory:"})


def test_prod_has_no_default_transport():
    with pytest.raises(ConfigError, match="no transport is named"):
        load({"env": "prod"}, environ={})

    assert load({"env": "prod"}, environ={"POSTHOUSE_TRANSPORT": "sqlite:/var/x"}).transport == "sqlite:/var/x"


def test_an_error_in_the_file_names_the_file(here: Path):
    file = here / "posthouse.toml"
    for text in ("grace = 'x'", "no toml", "gruce = 1"):
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"posthouse\.toml"):
            load(environ={})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_rights_is_named(here: Path):
    (here / "posthouse.toml").touch(mode=0)

    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load(environ={})


def test_a_file_that_is_named_must_be_there(here: Path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(here / "other.toml", environ={})
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(environ={"POSTHOUSE_CONFIG": "other.toml"})


def test_a_secret_is_never_shown_and_one_from_a_variable_is_left_for_the_gateway_to_read():
    signature = {"header": "X-Hub-Signature-256", "prefix": "sha256=", "secret": SECRET}
    pointed = {"header": "X-Hub-Signature-256", "secret_env": "HOOK"}

    settings = load({"routes": {"POST /a": {"signature": signature}, "POST /b": {"signature": pointed}}}, environ={})

    a, b = settings.route("POST /a").signature, settings.route("POST /b").signature
    assert a is not None
    assert b is not None
    assert (a.secret, b.secret) == (SECRET, "env:HOOK")
    assert SECRET not in repr(settings)


def test_a_secret_of_a_wrong_type_is_not_shown_in_the_error():
    with pytest.raises(ConfigError) as raised:
        load({"routes": {"POST /x": {"signature": {"header": "H", "secret": [SECRET]}}}}, environ={})

    assert SECRET not in str(raised.value)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["wait", "bind", "a", "x y", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*Settings.__struct_fields__, "x"]), json, max_size=4))
def test_whatever_is_said_it_is_settings_or_a_config_error(config: dict[str, object]):
    try:
        settings = load(config, environ={})
    except ConfigError:
        return

    assert isinstance(settings, Settings)


def test_what_is_said_of_a_route_holds_whatever_its_fields_are_called():
    settings = load({"routes": {"POST /hooks/{id}": {"hide": True}}}, environ={})

    assert settings.route("POST /hooks/{name}").hide
    assert not settings.route("POST /hooks").hide


def test_one_route_is_said_once_whatever_its_fields_are_called():
    with pytest.raises(ConfigError, match="same route"):
        load({"routes": {"POST /hooks/{id}": {"hide": True}, "POST /hooks/{name}": {"wait": 1}}}, environ={})


@pytest.mark.parametrize("signature", [SECRET, [SECRET]])
def test_a_secret_in_the_wrong_place_is_not_shown(signature: object):
    with pytest.raises(ConfigError, match="table") as caught:
        load({"routes": {"POST /x": {"signature": signature}}}, environ={})

    assert SECRET not in str(caught.value)


def test_an_empty_name_is_not_the_working_directory():
    for said in ({"data": ""}, {"transport": ""}, {"transport": "sqlite:"}):
        with pytest.raises(ConfigError):
            load(said, environ={})
        with pytest.raises(ConfigError):
            load(overrides=said, environ={})
    with pytest.raises(ConfigError):
        load(environ={"POSTHOUSE_DATA": ""})


def test_the_file_of_a_secret_lies_where_the_configuration_does(here: Path, monkeypatch: pytest.MonkeyPatch):
    (here / "posthouse.toml").write_text('[routes."POST /x"]\nsignature = {header = "X", secret = "file:key"}')
    (here / "below").mkdir()
    monkeypatch.chdir(here / "below")

    signature = load(environ={}).route("POST /x").signature

    assert signature is not None
    assert signature.secret == f"file:{here / 'key'}"
