"""Settings are read once, from options and environment, and refuse what would be unsafe."""

import dataclasses

import pytest

from fhir_server.limits import Limits
from salus.settings import LIMITS, Settings, SettingsError, read_settings, variables


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """A user of whom nothing is set."""
    for name in ("HOST", "PORT", "DATA", "KEYS", "BASE_URL", "OPEN", "TIMEZONE", "LIMITS_BODY"):
        monkeypatch.delenv(f"SALUS_{name}", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_nothing_need_be_set(home):
    settings = read_settings()

    assert settings.host == "127.0.0.1"
    assert settings.port == 8080
    assert settings.data == home / ".local/share/salus"
    assert settings.keys == home / ".local/state/salus/keys"
    assert settings.base_url == "http://127.0.0.1:8080"
    assert settings.fhir_base == "http://127.0.0.1:8080/fhir"
    assert settings.open is False
    assert settings.timezone == "UTC"
    assert settings.references == "accept"
    assert settings.limits == Limits()


def test_the_folders_follow_the_users_own_base_folders(monkeypatch, home):
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "d"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "s"))

    assert read_settings().data == home / "d/salus"
    assert read_settings().keys == home / "s/salus/keys"


def test_an_option_wins_over_the_environment_and_that_over_the_default(monkeypatch):
    monkeypatch.setenv("SALUS_PORT", "9000")

    assert read_settings().port == 9000
    assert read_settings(port=9001).port == 9001
    assert read_settings(port=None).port == 9000


def test_the_base_url_follows_host_and_port_unless_it_is_set(monkeypatch):
    assert read_settings(port=9001).base_url == "http://127.0.0.1:9001"
    assert read_settings(host="::1").base_url == "http://[::1]:8080"
    assert read_settings(base_url="https://a.example/x/").fhir_base == "https://a.example/x/fhir"
    monkeypatch.setenv("SALUS_PORT", "9002")
    assert read_settings().base_url == "http://127.0.0.1:9002"


def test_a_limit_is_set_by_a_variable_of_its_own_and_the_others_stay(monkeypatch):
    monkeypatch.setenv("SALUS_LIMITS_SEARCH_SECONDS", "2.5")

    assert read_settings().limits == dataclasses.replace(Limits(), search_seconds=2.5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"port": 0}, "--port must be 1 or more, not 0"),
        ({"port": 70_000}, "--port must be 65535 or less, not 70000"),
        ({"base_url": "ftp://{a}"}, "--base-url must begin with http:// or https://"),
        ({"base_url": "http://a.example?x=1"}, "--base-url must be a plain address"),
        ({"open": True, "host": "0.0.0.0"}, "--open serves everybody who can connect"),
        ({"data": "/srv/d", "keys": "/srv/d"}, "The keys (/srv/d) lie inside the data folder"),
        ({"data": "/srv/d", "keys": "/srv/d/k"}, "The keys (/srv/d/k) lie inside the data folder"),
    ],
)
def test_what_is_wrong_or_unsafe_is_refused_in_the_operators_words(options, text):
    with pytest.raises(SettingsError) as refused:
        read_settings(**options)

    assert str(refused.value).startswith(text)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("SALUS_PORT", "many", "SALUS_PORT must be a whole number, not many"),
        ("SALUS_OPEN", "perhaps", "SALUS_OPEN must be true or false, not perhaps"),
        ("SALUS_TIMEZONE", "Mars/North", "SALUS_TIMEZONE is not a time zone; write it like"),
        ("SALUS_REFERENCES", "maybe", "SALUS_REFERENCES must be 'accept' or 'check', not maybe"),
        ("SALUS_LIMITS_BODY", "big", "SALUS_LIMITS_BODY must be a whole number, not big"),
        ("SALUS_LIMITS_BODY", "0", "SALUS_LIMITS_BODY must be above 0"),
        ("SALUS_LIMITS", "{}", "SALUS_LIMITS is not a setting"),
        ("salus_prot", "1", "salus_prot is not a setting; did you mean SALUS_PORT?"),
    ],
)
def test_a_wrong_variable_is_named_and_explained(monkeypatch, name, value, text):
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as refused:
        read_settings()

    assert str(refused.value).startswith(text)


def test_keys_that_reach_into_the_data_by_a_link_are_refused(tmp_path):
    data = tmp_path / "data"
    (data / "inside").mkdir(parents=True)
    (tmp_path / "keys").symlink_to(data / "inside")

    with pytest.raises(SettingsError, match="inside the data folder"):
        read_settings(data=data, keys=tmp_path / "keys")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_an_open_server_listens_to_its_own_machine(host):
    assert read_settings(open=True, host=host).open is True


def test_a_misspelt_variable_is_refused_and_the_right_one_named(monkeypatch):
    monkeypatch.setenv("SALUS_LIMITS_BODDY", "1")

    with pytest.raises(SettingsError, match=r"did you mean SALUS_LIMITS_BODY\?"):
        read_settings()


def test_settings_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        read_settings().port = 1


def test_every_variable_is_listed_with_its_meaning():
    listed = list(variables(read_settings(port=9000)))

    assert {each.name for each in listed} == {
        *(f"SALUS_{name.upper()}" for name in Settings.model_fields if name != "limits"),
        *(f"SALUS_LIMITS_{each.name.upper()}" for each in dataclasses.fields(Limits)),
    }
    assert all(each.meaning for each in listed)
    assert [each.name for each in listed if not each.default] == ["SALUS_PORT"]


def test_every_limit_has_a_meaning():
    assert set(LIMITS) == {each.name for each in dataclasses.fields(Limits)}


@pytest.fixture
def pair(tmp_path):
    """Files that are there; whether they hold a certificate is looked at when serving."""
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    cert.touch()
    key.touch()
    return {"tls_cert": cert, "tls_key": key}


def test_with_a_certificate_links_are_https(pair):
    settings = read_settings(**pair)

    assert settings.base_url == "https://127.0.0.1:8080"
    assert settings.tls == (pair["tls_cert"], pair["tls_key"])


def test_beyond_this_machine_only_https_is_served(pair):
    far = {"host": "192.0.2.1"}

    with pytest.raises(SettingsError, match="only https is served"):
        read_settings(**far)
    with pytest.raises(SettingsError, match="only https is served"):
        read_settings(**far, base_url="https://fhir.example")
    assert read_settings(**far, **pair).base_url == "https://192.0.2.1:8080"
    proxied = read_settings(**far, behind_proxy=True, base_url="https://fhir.example")
    assert proxied.fhir_base == "https://fhir.example/fhir"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tls_cert": "cert"}, "belong together"),
        ({"tls_key": "key"}, "belong together"),
        ({"tls_cert": "gone", "tls_key": "key"}, "--tls-cert names no file"),
        ({"host": "0.0.0.0", "tls_cert": "cert", "tls_key": "key"}, "is every address"),
        (
            {"base_url": "http://127.0.0.1:8080", "tls_cert": "cert", "tls_key": "key"},
            "ith --tls-cert only https is served: begin --base-url with https://",
        ),
        (
            {"behind_proxy": True, "base_url": "http://fhir.example"},
            "okens travel over https only",
        ),
        ({"base_url": "http://fhir.example"}, "okens travel over https only"),
        ({"trusted_proxy": ("127.0.0.1",)}, "only with --behind-proxy"),
        ({"behind_proxy": True, "trusted_proxy": ("nearby",)}, "takes addresses and networks"),
        ({"registration": "perhaps"}, "must be 'off', 'token' or 'open'"),
        ({"organisation": ""}, "SALUS_ORGANISATION"),
    ],
)
def test_what_would_be_unsafe_on_the_wire_is_refused(options, said, pair, tmp_path):
    files = {"cert": pair["tls_cert"], "key": pair["tls_key"], "gone": tmp_path / "gone"}
    given = {n: files[v] if n.startswith("tls") else v for n, v in options.items()}

    with pytest.raises(SettingsError, match=said):
        read_settings(**given)


def test_an_open_server_may_have_any_name_in_its_links():
    assert read_settings(open=True, base_url="http://box.local").base_url == "http://box.local"


def test_lists_are_separated_by_commas_in_variables(monkeypatch):
    monkeypatch.setenv("SALUS_BEHIND_PROXY", "true")
    monkeypatch.setenv("SALUS_TRUSTED_PROXY", "10.0.0.0/8, 127.0.0.1")
    monkeypatch.setenv("SALUS_JWKS_HOSTS", "127.0.0.1:9,keys.internal")
    settings = read_settings()
    listed = {each.name: each.value for each in variables(settings)}

    assert settings.trusted_proxy == ("10.0.0.0/8", "127.0.0.1")
    assert [str(each) for each in settings.proxies] == ["10.0.0.0/8", "127.0.0.1/32"]
    assert settings.jwks_hosts == ("127.0.0.1:9", "keys.internal")
    assert listed["SALUS_TRUSTED_PROXY"] == "10.0.0.0/8,127.0.0.1"
    assert listed["SALUS_TLS_CERT"] == ""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("warn,Pateint=enforce", "names `Pateint`, .* did you mean `Patient`"),
        ("us-core-patient=enforce", "names `us-core-patient`, .* whose url it would name in full"),
        ("warn,Patient:enforce", "has `Patient:enforce`, which does not end in off, warn or"),
    ],
)
def test_a_policy_for_profiles_that_would_enforce_nothing_is_refused(monkeypatch, given, said):
    monkeypatch.setenv("SALUS_VALIDATE_PROFILES", given)
    with pytest.raises(SettingsError, match=f"SALUS_VALIDATE_PROFILES {said}"):
        read_settings()


def test_a_policy_for_types_and_profiles_is_read(monkeypatch):
    monkeypatch.setenv("SALUS_VALIDATE_PROFILES", "off,Patient=enforce,http://a.example/p=warn")
    policy = read_settings().writing
    assert (policy.usual, policy.types) == ("off", {"Patient": "enforce"})
    assert policy.profiles == {"http://a.example/p": "warn"}
