"""`salus export`: a folder with what a server has, counted against its manifest."""

from __future__ import annotations

import json
import stat


def test_a_folder_has_what_the_server_has_and_is_for_its_owner_alone(secured, tmp_path):
    with secured.client(secured.token()) as fhir:
        for n in range(3):
            fhir.put(
                f"/Location/exported-{n}", json={"resourceType": "Location", "id": f"exported-{n}"}
            ).raise_for_status()
    folder = tmp_path / "out"
    done = secured.command("export", "Location", "-o", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr

    manifest = json.loads((folder / "manifest.json").read_text())
    (told,) = manifest["output"]
    lines = (folder / "Location-1.ndjson").read_text().splitlines()
    assert told["count"] == len(lines)
    assert {f"exported-{n}" for n in range(3)} <= {json.loads(line)["id"] for line in lines}
    assert stat.S_IMODE((folder / "Location-1.ndjson").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_the_server_refuses_is_said(secured, tmp_path):
    done = secured.command("export", "Nothing", "-o", str(tmp_path / "out"))
    assert done.returncode != 0
    assert "`Nothing` in _type is nothing that is exported here" in done.stdout + done.stderr
    assert not (tmp_path / "out").exists()


def test_an_earlier_export_is_neither_mixed_with_nor_lost_unasked(secured, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    old = {"output": [{"type": "Patient", "url": "http://a.example/fhir/_bulk/j/Patient-1.ndjson"}]}
    (folder / "manifest.json").write_text(json.dumps(old))
    (folder / "Patient-1.ndjson").write_text("{}\n")
    (folder / "mine.txt").write_text("kept")

    done = secured.command("export", "Location", "-o", str(folder))
    assert done.returncode == 2
    assert f"{folder} has an export already: name another folder, or --overwrite it" in done.stderr
    assert (folder / "Patient-1.ndjson").read_text() == "{}\n"

    done = secured.command("export", "Location", "-o", str(folder), "--overwrite")
    assert done.returncode == 0, done.stdout + done.stderr
    named = json.loads((folder / "manifest.json").read_text())["output"]
    files = {each["url"].rpartition("/")[2] for each in named}
    assert {each.name for each in folder.iterdir()} == {"manifest.json", "mine.txt", *files}


def test_a_server_that_is_not_there_is_named_with_what_to_do(secured, tmp_path):
    out = ("-o", str(tmp_path / "out"))
    done = secured.command("export", *out, "--url", "http://127.0.0.1:9/fhir")
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert "No server answers at http://127.0.0.1:9/fhir (" in said
    assert "start it with `salus serve`, or name another with --url" in said


def test_an_address_that_is_no_fhir_base_is_told_from_an_export_that_is_refused(secured, tmp_path):
    base = secured.url.removesuffix("/fhir")
    done = secured.command("export", "-o", str(tmp_path / "out"), "--url", base)
    assert done.returncode == 2
    assert f"{base} is no FHIR base (status 404)" in " ".join(done.stderr.split())


def test_an_export_that_fails_leaves_no_job(secured, tmp_path):
    (tmp_path / "out").write_text("no folder")
    done = secured.command("export", "Location", "-o", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "cannot hold the files" in done.stderr
    with secured.client(secured.token()) as fhir:  # of the same client, of which 8 are kept
        begun = [
            fhir.get("/$export?_type=Location", headers={"Prefer": "respond-async"})
            for _ in range(8)
        ]
        assert [each.status_code for each in begun] == [202] * 8
        for each in begun:
            fhir.delete(each.headers["content-location"])
