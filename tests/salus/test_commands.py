"""What the operator's commands say, and what they refuse, as whoever types them sees it."""

import json
import re
from io import StringIO

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc.jwk import ECKey
from rich.console import Console

from salus import terminal
from salus.advice import NOT_ADMINISTERED
from tests.salus.test_tls import certificate
from tests.secured import Secured, patient

FHIR = {"content-type": "application/fhir+json"}

ASKING = (
    ("user", "list"),
    ("user", "add", "maria"),
    ("client", "list"),
    ("client", "register", "app", "--redirect-uri", "https://app.example/back"),
    ("token", "--scope", "system/*.rs"),
)


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
def test_a_misspelt_folder_is_not_made(tmp_path, command):
    server = Secured(tmp_path)
    told = server.command(*command)

    assert told.returncode == 2
    assert f"There is no data in {server.data}" in told.stderr
    assert not server.data.exists()


def test_whoever_names_no_folder_of_data_is_told_where_a_server_has_its_own(secured, tmp_path):
    told = secured.command("user", "list", "--data", str(tmp_path / "misspelt"))

    assert told.returncode == 2
    assert f"There is no data in {tmp_path / 'misspelt'}" in told.stderr
    assert f"\n  a server runs on {secured.data.resolve()}\n" in told.stderr


def test_the_last_administrator_stays_unless_that_is_meant(tmp_path):
    server = Secured(tmp_path)
    for name in ("root", "second"):
        server.user(name, administrator=True)
    server.user("maria", "Practitioner/maria")
    first = server.command("user", "disable", "second")
    refused = [server.command("user", each, "Root") for each in ("disable", "remove")]
    other = server.command("user", "disable", "maria")
    meant = server.command("user", "disable", "root", "--yes")

    assert [each.returncode for each in (first, *refused, other, meant)] == [0, 2, 2, 0, 0]
    assert {each.stderr for each in refused} == {
        "salus: root is the last administrator: add another first with `salus user add NAME "
        "--admin`, or say --yes\n"
    }


def test_a_server_that_nobody_administers_says_how_to_mend_that(tmp_path):
    server = Secured(tmp_path)
    server.user("root", administrator=True)
    server.start()
    server.command("user", "disable", "root", "--yes")
    server.stop()
    silent = server.log.read_text()
    server.start()
    examined = server.command("doctor")
    server.stop()

    folders = f" --data {server.data} --keys {server.keys}"
    assert NOT_ADMINISTERED not in silent
    assert f"Warning: {NOT_ADMINISTERED}: " in server.log.read_text()
    assert f"user add NAME --admin{folders}\n" in server.log.read_text()
    assert f"Could be tighter: {NOT_ADMINISTERED}\n" in examined.stdout
    assert f"user add NAME --admin{folders}\n" in examined.stdout


def test_a_token_that_would_open_nothing_is_refused_with_the_reason(secured):
    with secured.client(secured.token()) as fhir:
        for id in ("ada", "bob"):
            fhir.put(f"/Patient/{id}", content=patient(id), headers=FHIR).raise_for_status()
    secured.app("chart", "patient/*.rs")
    secured.user("ada-herself", "Patient/ada")

    def asked(id, *more):
        whose = ("--client", "chart", "--user", "ada-herself", "--patient", id)
        return secured.command("token", "--scope", "patient/*.rs", *whose, *more)

    own, others, nobody = asked("ada"), asked("bob"), asked("nobody")
    secured.command("client", "disable", "chart")
    disabled = asked("ada")
    secured.command("client", "disable", "salus-operator")
    without = secured.command("token", "--scope", "system/*.rs")
    secured.command("client", "enable", "salus-operator")

    told = (own, others, nobody, disabled, without)
    assert [each.returncode for each in told] == [0, 2, 2, 2, 2]
    assert "ada-herself is Patient/ada, who may not see Patient/bob" in others.stderr
    assert "There is no Patient/nobody: --patient takes the id" in nobody.stderr
    assert "The client chart is disabled: `salus client enable chart`" in disabled.stderr
    assert "The client salus-operator is disabled" in without.stderr


# --- which server ---------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    """One patient to load."""
    made = tmp_path / "a.ndjson"
    made.write_text('{"resourceType":"Patient","gender":"female"}\n')
    return str(made)


def test_files_are_loaded_by_the_server_that_has_the_folders_wherever_it_listens(secured, file):
    nowhere = {"SALUS_DATA": "/nowhere", "SALUS_KEYS": "/nowhere-else", "SALUS_PORT": "1"}
    folders = ("--data", str(secured.data), "--keys", str(secured.keys))
    told = [
        secured.command("load", file, *folders, **nowhere),
        secured.command("load", file, *folders, "--url", secured.url, **nowhere),
        secured.command("load", file, SALUS_PORT="1"),
    ]

    assert [each.returncode for each in told] == [0, 0, 0], told
    assert "No server has" not in "".join(each.stderr for each in told)


def test_doctor_finds_the_server_by_the_folder(secured):
    told = secured.command("doctor", SALUS_PORT="1")

    assert told.returncode == 0
    assert f"{secured.url} (a server answers)" in told.stdout
    assert "which answers" in told.stdout


def test_what_a_server_prints_to_try_next_names_its_folders(secured):
    folders = f"--data {secured.data} --keys {secured.keys}"

    assert re.search(
        rf"salus load FILE.ndjson.gz --url {secured.url} {re.escape(folders)}\n",
        secured.log.read_text(),
    )


def test_a_certificate_that_is_not_trusted_is_diagnosed_and_may_be_named(tmp_path, file):
    cert, key, _ = certificate(tmp_path / "tls")
    other, _, _ = certificate(tmp_path / "other")
    server = Secured(tmp_path)
    server.scheme, server.verify = "https", str(cert)
    server.arguments = ("--tls-cert", str(cert), "--tls-key", str(key))
    server.start()
    bare = server.command("load", file)
    wrong = server.command("load", file, "--ca", str(other))
    named = server.command("load", file, "--ca", str(cert))
    elsewhere = server.command("load", file, "--ca", str(cert), "--url", server.url.replace(
        "127.0.0.1", "localhost"))  # fmt: skip
    none = server.command("load", file, "--ca", file)
    server.stop()

    assert f" load FILE.ndjson.gz --url {server.url} " in server.log.read_text()
    assert f" --ca {cert}\n" in server.log.read_text()
    assert f"curl --cacert {cert} {server.url}/metadata" in server.log.read_text()
    told = (bare, wrong, named, elsewhere, none)
    assert [each.returncode for each in told] == [2, 2, 0, 2, 2], told
    for each in (bare, wrong):
        assert f"The certificate of {server.url} is not trusted here" in each.stderr
        assert "with --ca FILE" in each.stderr
    assert "is another name's" in elsewhere.stderr
    assert f"{file} holds no certificate in PEM" in none.stderr


# --- lists and keys -------------------------------------------------------------------------------


def test_a_list_is_never_cut_where_it_is_piped_or_the_terminal_is_narrow(secured):
    id, name = f"list-{'x' * 80}", "A name of many words that goes on and on"
    secured.app(id, "patient/*.rs", name=name)
    piped = secured.command("client", "list", COLUMNS="40").stdout.splitlines()
    with_json = secured.command("client", "list", "--json", COLUMNS="40")
    users = secured.command("user", "list", "--json")

    assert piped[0].split("\t")[:2] == ["Client", "Name"]
    assert [id, name] in [each.split("\t")[:2] for each in piped]
    assert id in {each["id"] for each in json.loads(with_json.stdout)}
    assert isinstance(json.loads(users.stdout), list)


def test_a_table_in_a_narrow_terminal_is_folded(monkeypatch):
    shown = Console(width=40, force_terminal=True, file=StringIO(), no_color=True)
    monkeypatch.setattr(terminal, "out", shown)
    terminal.listing(("Client", "Name"), [("x" * 60, "n")])

    told = shown.file.getvalue()
    assert told.count("x") == 60
    assert "…" not in told


def register(server, id, *more):
    return server.command("client", "register", id, "--profile", "backend", *more)


def test_a_key_is_known_by_its_kid_wherever_it_was_made(secured, tmp_path):
    scope, made, pem = ("--scope", "system/*.rs"), tmp_path / "made.jwk", tmp_path / "public.pem"
    pair = ec.generate_private_key(ec.SECP384R1())
    pem.write_bytes(pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    kid = ECKey.import_key(pem.read_bytes()).thumbprint()
    one = register(secured, "made", "--make-key", str(made), *scope)
    other = register(secured, "by-pem", "--jwks", str(pem), *scope)
    shown = secured.command("client", "show", "by-pem")

    own = json.loads(made.read_bytes())["kid"]
    assert [one.returncode, other.returncode] == [0, 0], one.stderr + other.stderr
    assert f"Its private key is in {made}, and its kid is {own}" in one.stderr
    assert f"keys (kid)\t{own}\n" in one.stdout
    assert f"keys (kid)\t{kid}\n" in shown.stdout


def test_a_key_that_cannot_be_taken_is_refused_with_what_to_do(secured, tmp_path):
    scope, private, junk = ("--scope", "system/*.rs"), tmp_path / "private.pem", tmp_path / "junk"
    pair = ec.generate_private_key(ec.SECP384R1())
    private.write_bytes(pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    junk.write_text("nonsense")
    made = tmp_path / "unused.jwk"
    told = [
        register(secured, "bad", *more)
        for more in (
            scope,
            ("--jwks", "/nonexistent", *scope),
            ("--jwks", str(private), *scope),
            ("--jwks", str(junk), *scope),
            ("--make-key", str(made)),
        )
    ]

    said = (
        "have one made with --make-key FILE",
        "/nonexistent is no file that is there: name one with a JWK Set",
        f"`openssl pkey -in {private} -pubout`",
        f"{junk} is neither JSON nor PEM",
        "scopes that it may be granted",
    )
    assert [each.returncode for each in told] == [2] * len(told)
    assert [text for text, each in zip(said, told, strict=True) if text not in each.stderr] == []
    assert not made.exists()  # so that the same command works with what was missing


def test_an_app_without_a_limit_is_shown_so(secured):
    secured.app("limitless")
    told = secured.command("client", "show", "limitless")

    assert "scopes at most\tno limit: no --scope was given\n" in told.stdout
