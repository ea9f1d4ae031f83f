"""Times that other systems tell are shown, or replaced, and never break a page."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from salus.console.telling import Names, Viewer, told

HERE = "2026-11-22T10:00:00Z"


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Auckland"])
@pytest.mark.parametrize(
    ("recorded", "shown"),
    [
        ("2026-11-22T09:30:00+01:00", datetime(2026, 11, 22, 8, 30, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999-12:00", None),
        ("2026-11-22T23:59:60Z", None),
        ("0001-01-01T00:00:00+14:00", None),
    ],
)
def test_a_time_that_no_calendar_has_is_replaced_by_that_of_its_recording(zone, recorded, shown):
    event = {
        "resourceType": "AuditEvent",
        "id": "7",
        "meta": {"lastUpdated": HERE},
        "type": {"code": "x"},
        "recorded": recorded,
        "agent": [{"requestor": True, "who": {"reference": "Practitioner/dr"}}],
        "entity": [{"what": {"reference": "Patient/bob"}}],
    }
    at = told(event, Names({}, {}), Viewer(None, {}, ZoneInfo(zone), all=True)).at

    assert at == (shown or datetime.fromisoformat(HERE))
    assert at.tzinfo == ZoneInfo(zone)
