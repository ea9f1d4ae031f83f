"""`salus patient` and `salus audit expire`, in the folder of a server that is not running."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from salus.commands import expire as expiring
from salus.commands import patient
from tests.erasure.world import Clinic, told

REFUSED = 2  # what every command exits with that says what to do instead
BASIS = "Request 12, GDPR article 17"


@pytest.fixture
def run(tmp_path):
    """A clinic with one patient, and what runs a command on it."""

    async def fill(clinic: Clinic):
        await clinic.put("Patient", "ada", name=[{"family": "Ostrow"}])
        await clinic.put(
            "Observation",
            "o",
            status="final",
            code={"text": "x"},
            subject={"reference": "Patient/ada"},
        )

    told(tmp_path, fill)
    folders = ["--data", str(tmp_path / "data"), "--keys", str(tmp_path / "keys")]

    def ran(*arguments, app=patient.app, typed=None):
        result = CliRunner().invoke(app, [*arguments, *folders], input=typed)
        return result.exit_code, " ".join(result.output.split()), result.stdout

    return ran


def test_an_erasure_is_shown_confirmed_and_reported(run):
    code, said, _ = run("erase", "ada", "--dry-run")
    assert code == 0
    assert "Would be erased: Patient/ada, 2 resources in 2 versions" in said
    assert "Others would lose nothing." in said
    code, said, _ = run("erase", "ada", "--basis", BASIS, typed="bob\n")
    assert code == REFUSED
    assert "nothing was erased" in said
    code, said, _ = run("erase", "ada", "--basis", BASIS, typed="ada\n")
    assert code == 0
    assert "Erased: Patient/ada, 2 resources in 2 versions" in said
    assert "What remains, and why:" in said
    assert "The last copy of the destroyed keys, in a key backup, ends by" in said
    code, said, _ = run("erase", "ada", "--basis", BASIS, "--yes")
    assert code == REFUSED
    assert "There is no such Patient" in said


def test_a_program_is_answered_in_json(run):
    code, _, out = run("erase", "ada", "--basis", BASIS, "--yes", "--json")
    shown = json.loads(out)
    assert code == 0
    assert (shown["id"], shown["finished"], shown["tidy"]) == ("ada", True, True)
    assert shown["types"] == [["Observation", 1], ["Patient", 1]]


def test_a_hold_is_put_listed_and_released(run):
    assert run("hold", "ada", "--reason", "claim 7")[0] == 0
    assert "ada" in run("holds")[1]
    assert "claim 7" in run("holds")[1]
    code, said, _ = run("erase", "ada", "--basis", BASIS, "--yes")
    assert code == REFUSED
    assert "A legal hold stands in the way" in said
    assert run("release", "ada")[0] == 0
    assert run("release", "ada")[0] == REFUSED
    assert run("hold", "nobody", "--reason", "x")[0] == REFUSED


@pytest.mark.parametrize(
    "arguments",
    [("erase", "ada", "--yes"), ("erase", "a/b", "--dry-run"), ("erase", "nobody", "--dry-run")],
)
def test_what_makes_no_sense_is_refused(run, arguments):
    assert run(*arguments)[0] == REFUSED


def test_months_end_by_command(run):
    app = typer.Typer()
    app.command()(expiring.expire)
    code, said, _ = run(app=app)
    assert (code, said) == (0, "No month is over.")
    assert run("--before", "2999-01", app=app)[0] == REFUSED
