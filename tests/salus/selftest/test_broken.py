"""Suites pass a server that does as it should, and fail one that does a single thing wrong."""

import pytest

from conformance.suites import shipped
from conformance.testscript import Engine, Target
from tests.front import front
from tests.salus.selftest.breakages import BREAKAGES


def run(server, names, spoil=None):
    scripts = [shipped()[each] for each in names]
    with front(server.url, *([spoil] if spoil else [])) as url:
        return Engine(Target({1: url}, server.token)).run_all(scripts)


def test_a_server_that_does_as_it_should_passes(server):
    names = sorted({each.seen_by for each in BREAKAGES})
    amiss = {
        run.script.place: (run.note, [part.reason for part in run.parts if part.outcome != "pass"])
        for run in run(server, names)
        if run.outcome != "pass"
    }
    assert amiss == {}


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda each: each.name)
def test_a_breakage_is_seen(server, breakage):
    (found,) = run(server, [breakage.seen_by], breakage.spoil)
    assert found.outcome in ("fail", "error"), f"{breakage.seen_by} does not see it"
    assert any(part.reason for part in found.parts if part.outcome in ("fail", "error"))


def test_every_suite_sees_some_breakage():
    assert {each.seen_by for each in BREAKAGES} == set(shipped())
