"""`salus package` and $install-package: what is installed is served at once, and stays."""

import base64
import json

import pytest

from salus.operator import requests
from tests.packages import NAME, PROFILE, profile, tgz
from tests.secured import Secured

GUIDE = "http://example.org/guide/ImplementationGuide/example.guide"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Secured(tmp_path_factory.mktemp("package"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "example.tgz"
    path.write_bytes(tgz(profile()))
    return path


def told(server, *arguments, code=0):
    done = server.command("package", *arguments)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def labels(server) -> list[str]:
    listed = server.operator(requests.ListPackages(), requests.PackagesShown)
    return [f"{each.name}#{each.version}" for each in listed.packages]


def metadata(server):
    with server.client() as client:
        return client.get("/metadata").json()


def test_a_package_is_installed_on_a_running_server_listed_and_removed(server, file):
    said = told(server, "install", str(file))
    assert f"Installed {NAME}#1.0.0: 1 StructureDefinition" in said
    assert labels(server) == ["hl7.fhir.r4.core#4.0.1", f"{NAME}#1.0.0"]
    said = metadata(server)
    assert said["implementationGuide"] == [f"{GUIDE}|1.0.0"]
    (patient,) = [each for each in said["rest"][0]["resource"] if each["type"] == "Patient"]
    assert patient["supportedProfile"] == [PROFILE]

    core, own = json.loads(told(server, "list", "--json"))
    assert (core["name"], core["installed"]) == ("hl7.fhir.r4.core", None)
    assert (own["name"], own["version"], own["missing"]) == (NAME, "1.0.0", [])

    assert f"Replaced {NAME}#1.0.0" in told(server, "install", str(file))
    assert f"Removed {NAME}#1.0.0" in told(server, "remove", f"{NAME}#1.0.0")
    assert labels(server) == ["hl7.fhir.r4.core#4.0.1"]
    assert "implementationGuide" not in metadata(server)


def test_what_cannot_be_installed_or_removed_is_said(server, tmp_path):
    other = tmp_path / "r5.tgz"
    other.write_bytes(tgz(fhirVersions=["5.0.0"]))
    torn = tmp_path / "torn.tgz"
    torn.write_bytes(tgz(profile())[:-30])
    empty = tmp_path / "empty"
    empty.mkdir()
    lacking = tmp_path / "lacking.tgz"
    lacking.write_bytes(tgz(profile(), dependencies={"other.guide": "1.0.0"}))
    for arguments, text in (
        (("install", str(other)), "is for FHIR 5.0.0; this server speaks R4 (4.0.1)"),
        (("install", str(torn)), f"{torn}: The package is damaged: it cannot be unpacked"),
        (("install", str(tmp_path / "none.tgz")), "There is no"),
        (
            ("install", "hl7.fhir.us.core"),
            "There is no hl7.fhir.us.core: packages are files (.tgz)",
        ),
        (
            ("install", str(lacking), "--strict"),
            f"{NAME}#1.0.0 depends on packages that are not here: other.guide#1.0.0",
        ),
        (("remove", f"{NAME}#9.9.9"), f"There is no package {NAME}#9.9.9"),
        (("remove", NAME), f"There is no package {NAME}: `salus package list` shows all"),
        (("remove", "hl7.fhir.r4.core"), "Name the version too: hl7.fhir.r4.core#4.0.1"),
        (("install", str(empty)), f"salus: {empty} is no package: it holds no package.json"),
        (("remove", "hl7.fhir.r4.core#4.0.1"), "hl7.fhir.r4.core#4.0.1 is a part of Salus"),
    ):
        assert text in told(server, *arguments, code=2)
    assert labels(server) == ["hl7.fhir.r4.core#4.0.1"]


def test_of_several_files_those_that_can_be_are_installed_and_the_others_are_named(
    server, tmp_path
):
    files = {
        "a": tgz(profile()),
        "bad": b"no package",
        "c": tgz(profile("2.0.0"), version="2.0.0", dependencies={NAME: "0.5.0"}),
    }
    for name, data in files.items():
        (tmp_path / f"{name}.tgz").write_bytes(data)
    done = server.command("package", "install", *(str(tmp_path / f"{n}.tgz") for n in files))
    assert done.returncode == 2
    lines = [line for line in done.stdout.splitlines() if line.startswith("Installed")]
    assert [line.partition(":")[0] for line in lines] == [
        f"Installed {NAME}#1.0.0",
        f"Installed {NAME}#2.0.0",
    ]
    assert done.stderr.startswith(f"salus: {tmp_path}/bad.tgz: "), done.stderr

    rows = [line.split("\t") for line in told(server, "list").splitlines()]
    assert rows[-1][-1] == f"{NAME}#0.5.0 (there is 1.0.0, 2.0.0)"
    removed = told(server, "remove", f"{NAME}#1.0.0", f"{NAME}#2.0.0")
    assert removed.splitlines() == [f"Removed {NAME}#1.0.0", f"Removed {NAME}#2.0.0"]


def test_a_package_is_installed_in_a_folder_without_a_server_and_is_there_after_a_start(tmp_path):
    server = Secured(tmp_path)
    server.start()
    server.stop()
    folder = tmp_path / "packages"
    folder.mkdir()
    for version in ("1.0.0", "1.10.0"):
        data = tgz(profile(version), version=version, dependencies={"other.guide": "1.x"})
        (folder / f"{version}.tgz").write_bytes(data)
    said = told(server, "install", str(folder))
    assert said.count("depends on other.guide#1.x, which is not here") == 2
    there = ["hl7.fhir.r4.core#4.0.1", f"{NAME}#1.0.0", f"{NAME}#1.10.0"]
    assert labels(server) == there
    server.start()
    assert metadata(server)["implementationGuide"] == [f"{GUIDE}|1.0.0", f"{GUIDE}|1.10.0"]
    server.kill()
    assert labels(server) == there

    backup, back = tmp_path / "one.backup", Secured(tmp_path)
    assert server.command("backup", str(backup)).returncode == 0
    back.data = tmp_path / "restored"
    assert back.command("restore", str(backup), "--data", str(back.data)).returncode == 0
    assert labels(back) == there


def test_an_administering_app_installs_a_package_over_http_and_no_other_does(server):
    file = tgz(profile("3.0.0"), version="3.0.0")
    sent = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "package", "valueBase64Binary": base64.b64encode(file).decode()},
            {"name": "strict", "valueBoolean": True},
        ],
    }
    with server.client() as client:

        def post(scope, **content):
            token = server.command("token", "--scope", scope).stdout.strip()
            headers = {"authorization": f"Bearer {token}", **content.pop("headers", {})}
            return client.post("/$install-package", headers=headers, **content)

        for scope in ("system/*.rs", "system/Patient.cruds", "system/*.cru"):
            assert post(scope, json=sent).status_code == 403
        assert client.post("/$install-package", json=sent).status_code == 401
        assert labels(server) == ["hl7.fhir.r4.core#4.0.1"]

        done = post("system/*.cruds", json=sent)
        assert done.status_code == 200, done.text
        assert done.json()["parameter"] == [
            {"name": "package", "valueString": f"{NAME}#3.0.0"},
            {"name": "resources", "valueInteger": 1},
        ]
        assert metadata(server)["implementationGuide"] == [f"{GUIDE}|3.0.0"]

        gzip = {"content-type": "application/gzip"}
        done = post("system/*.cruds", content=tgz(version="3.1.0"), headers=gzip)
        assert done.json()["parameter"][0]["valueString"] == f"{NAME}#3.1.0"
        refused = post("system/*.cruds", content=b"no gzip", headers=gzip)
        assert refused.status_code == 422
        assert refused.json()["issue"][0]["diagnostics"] == (
            "This is no package: it is not a gzip file (.tgz)"
        )
    for version in ("3.0.0", "3.1.0"):
        server.operator(requests.RemovePackage(NAME, version))


def test_reindex_takes_the_code_of_a_parameter_that_a_package_brought(server, tmp_path):
    parameter = {
        "resourceType": "SearchParameter",
        "id": "nick",
        "url": "http://example.org/guide/SearchParameter/nick",
        "name": "Nick",
        "status": "active",
        "description": "By nickname",
        "code": "nick",
        "base": ["Patient"],
        "type": "string",
        "expression": "Patient.name.where(use = 'nickname').given",
    }
    path = tmp_path / "nick.tgz"
    path.write_bytes(tgz(parameter))
    told(server, "install", str(path))
    for named in ("nick", "Patient.nick", parameter["url"]):
        done = server.command("reindex", "--parameter", named, "--no-wait")
        assert (done.returncode, "Patient\tnick\t" in done.stdout) == (0, True), done.stderr
    for named in ("nock", "Observation.nick"):
        done = server.command("reindex", "--parameter", named)
        said = f"salus: No search parameter beyond R4's is called {named}: `salus reindex` lists"
        assert (done.returncode, " ".join(done.stderr.split()).startswith(said)) == (2, True)
    told(server, "remove", f"{NAME}#1.0.0")
