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
