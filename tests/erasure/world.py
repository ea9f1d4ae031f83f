"""A clinic of three patients who share what people share, and what is searched for in its files once
one of them is erased."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import zlib
from pathlib import Path
from uuid import UUID

import apsw

from conformance.outcome import FhirError
from fhir_server.audit.event import Caller
from fhir_server.binary import spooled
from fhir_server.interaction import Interaction
from fhir_server.storage.keys import FileKeys, page_key
from fhir_server.storage.sqlite import codec, schema
from salus.app import open_product
from salus.operator import patients, requests, users
from salus.settings import Settings
from smart_auth import grants
from smart_auth.grant import Grant
from smart_auth.model import GrantRecord, LaunchContext

ANN = "0190a1b2-7777-7abc-8def-00000000a44a"
SEEN = "0190a1b2-7777-7abc-8def-0000000b5e44"  # an observation of hers
BASIS = "Request 12, GDPR article 17"

# What only Ann has. Her earlier name and the code of what was deleted are in no current version.
SECRETS = (
    "Zebedee",
    "Oldmaiden",
    "Annabella",
    "MRN-77-ANN",
    "+44-ann-only",
    "ann-rare-code",
    "ann-deleted-code",
    "ann-note-words",
    "annlogin",
    "Annlogin Display",
    ANN,
    SEEN,
    "ann-letter",
    "ann-encounter",
)
SHARED = ("Sharedname", "shared-code", "+44-shared")


def settings(folder: Path) -> Settings:
    return Settings(data=folder / "data", keys=folder / "keys")


class Clinic:
    """Asks a product as its operator."""

    def __init__(self, product) -> None:
        self.product, self.server = product, product.server
        self.caller = Caller(Grant.operator("tests"), "local", "http://here")

    async def ask(self, code, type, id=None, **more):
        return await self.server.perform(Interaction(code, type, id, **more), self.caller)

    async def put(self, type, id, /, **content):
        resource = {"resourceType": type, "id": id, **content}
        if type == "Binary":
            resource = await spooled(self.server, resource)
        return await self.ask("update", type, id, resource=resource)

    async def read(self, type, id):
        """The resource, or the status of the refusal."""
        try:
            return json.loads((await self.ask("read", type, id)).body)
        except FhirError as error:
            return error.status

    async def found(self, type, **asked):
        """Ids that a search finds."""
        parameters = tuple(asked.items())
        bundle = json.loads((await self.ask("search-type", type, parameters=parameters)).body)
        return [each["resource"]["id"] for each in bundle.get("entry", ())]

    async def erase(self, id=ANN, basis=BASIS, dry=False):
        return await patients.erase(
            self.product, requests.ErasePatient(id=id, basis=basis, dry=dry)
        )


def ref(name, display=None):
    return {"reference": name, **({"display": display} if display else {})}


def coded(*codes):
    return {"coding": [{"system": "urn:codes", "code": code} for code in codes]}


def person(family, given, mrn, phone):
    return {
        "name": [{"family": family, "given": [given]}, {"family": "Sharedname"}],
        "identifier": [{"system": "urn:mrn", "value": mrn}],
        "telecom": [
            {"system": "phone", "value": phone},
            {"system": "phone", "value": "+44-shared"},
        ],
        "birthDate": "1951-02-03",
    }


async def fill(clinic: Clinic) -> None:
    await _people(clinic)
    await _documents(clinic)
    await _shared(clinic)
    await _accounts(clinic)
    await _asked(clinic)


async def _people(clinic: Clinic) -> None:
    put = clinic.put
    await put("Patient", ANN, **person("Oldmaiden", "Annabella", "MRN-77-ANN", "+44-ann-only"))
    await put("Patient", ANN, **person("Zebedee", "Annabella", "MRN-77-ANN", "+44-ann-only"))
    await put("Patient", "bob", **person("Bobson", "Robert", "MRN-BOB", "+44-bob"))
    await put("Patient", "cid", **person("Cidson", "Cid", "MRN-CID", "+44-cid"))
    for who, rare in ((ANN, "ann-rare-code"), ("bob", "bob-code"), ("cid", "cid-code")):
        for number in range(12):
            id = SEEN if who == ANN and number == 0 else f"{rare}-{number}"
            note = {"note": [{"text": "ann-note-words"}]} if who == ANN else {}
            name = "Zebedee" if who == ANN else None
            await put(
                "Observation",
                id,
                status="final",
                code=coded("shared-code", rare),
                subject=ref(f"Patient/{who}", name),
                **note,
            )
    await put(
        "Condition", "ann-deleted", subject=ref(f"Patient/{ANN}"), code=coded("ann-deleted-code")
    )
    await clinic.ask("delete", "Condition", "ann-deleted")
    await put(
        "Encounter",
        "ann-encounter",
        status="finished",
        **{"class": {"code": "AMB"}},
        subject=ref(f"Patient/{ANN}"),
    )


async def _asked(clinic: Clinic) -> None:
    for name in ("Zebedee", "Sharedname", "Bobson"):
        await clinic.found("Patient", name=name)
    # These find nobody, so what they ask for is sealed as nobody's.
    await clinic.found("Observation", identifier="urn:mrn|MRN-77-ANN")
    await clinic.found("Observation", _id="not-there,ann-encounter")
    await clinic.found("Observation", patient=f"Patient/{ANN}", _count="5")
    await clinic.ask(
        "create",
        "Observation",
        once="key-1",
        resource={
            "resourceType": "Observation",
            "status": "final",
            "code": coded("ann-rare-code"),
            "subject": ref(f"Patient/{ANN}"),
        },
    )


async def _documents(clinic: Clinic) -> None:
    large = base64.b64encode(b"ann-letter" * 300_000).decode()
    await clinic.put(
        "Binary",
        "ann-big",
        contentType="text/plain",
        data=large,
        securityContext=ref(f"Patient/{ANN}"),
    )
    small = base64.b64encode(b"ann-letter").decode()
    await clinic.put("Binary", "ann-letter", contentType="text/plain", data=small)
    await clinic.put(
        "DocumentReference",
        "ann-document",
        status="current",
        subject=ref(f"Patient/{ANN}"),
        content=[{"attachment": {"contentType": "text/plain", "url": "Binary/ann-letter"}}],
    )


async def _shared(clinic: Clinic) -> None:
    """What others share with her: each names her in another way."""
    put, ann, bob, cid = clinic.put, ref(f"Patient/{ANN}", "Zebedee"), ref("Patient/bob"), "cid"
    div = '<div xmlns="http://www.w3.org/1999/xhtml">Annabella Zebedee, Bob</div>'
    members = [{"entity": each} for each in (ann, bob, ref(f"Patient/{cid}"))]
    await put("Group", "g", type="person", actual=True, member=members)
    await put(
        "Group",
        "g",
        type="person",
        actual=True,
        name="second",
        member=members,
        text={"status": "generated", "div": div},
    )
    await put("Group", "left", type="person", actual=True, member=members)
    await put("Group", "left", type="person", actual=True, member=members[1:])
    await put(
        "Appointment",
        "a",
        status="booked",
        participant=[{"actor": each, "status": "accepted"} for each in (ann, bob)],
        start="2026-01-01T10:00:00Z",
        end="2026-01-01T10:30:00Z",
    )
    await put(
        "List",
        "l",
        status="current",
        mode="working",
        entry=[{"item": ref(f"Observation/{SEEN}")}, {"item": ref("Observation/bob-code-1")}],
    )
    await put(
        "Task",
        "t",
        status="requested",
        intent="order",
        focus=ref(f"Observation/{SEEN}"),
        description=f"see Observation/{SEEN} again",
    )
    await put(
        "MessageHeader",
        "m",
        eventUri="urn:e",
        source={"endpoint": "urn:x"},
        focus=[ref(f"Observation/{SEEN}"), ref("Observation/bob-code-1")],
    )
    await _about(clinic, ann, bob)


async def _about(clinic: Clinic, ann, bob) -> None:
    put = clinic.put
    provenance = {"recorded": "2026-01-01T10:00:00Z", "agent": [{"who": {"display": "clinic"}}]}
    await put("Provenance", "p-both", target=[ann, bob], **provenance)
    await put("Provenance", "p-only", target=[ref(f"Observation/{SEEN}")], **provenance)
    await put("Account", "acc", status="active", subject=[ann, bob])
    await put(
        "Communication",
        "by-identifier",
        status="completed",
        subject=bob,
        recipient=[{"type": "Patient", "identifier": {"system": "urn:mrn", "value": "MRN-77-ANN"}}],
    )
    await put(
        "Observation",
        "required",
        status="final",
        code=coded("shared-code"),
        subject=bob,
        derivedFrom=[ref(f"Observation/{SEEN}")],
    )
    await put("DetectedIssue", "issue", status="final", patient=bob, implicated=[ann])
    await put(
        "EnrollmentRequest",
        "masked",
        status="active",
        candidate=bob,
        coverage=ref("Coverage/none"),
    )
    await put(
        "Consent",
        "consent",
        status="active",
        scope=coded("x"),
        category=[coded("y")],
        patient=bob,
        policyRule=coded("z"),
        provision={"data": [{"meaning": "instance", "reference": ref(f"Observation/{SEEN}")}]},
    )


async def _accounts(clinic: Clinic) -> None:
    product = clinic.product
    await users.add(
        product,
        requests.AddUser(name="annlogin", who=f"Patient/{ANN}", display="Annlogin Display"),
    )
    record = GrantRecord(
        id="grant-1",
        client="app",
        account=None,
        who=None,
        scopes=("patient/*.rs",),
        context=LaunchContext(patient=ANN),
        created=product.authority.clock(),
    )
    await product.authority.keeper.transaction(lambda tx: grants.give(tx, record), write=True)


# --- what is searched ------------------------------------------------------------------------------


def images(folder: Path, scratch: Path) -> dict[str, bytes]:
    """The database decrypted, with its free pages and the unused parts of pages: as it is with its
    write-ahead log, and as its main file is alone; and every value of every row."""
    made: dict[str, bytes] = {}
    key = page_key(folder / "data", FileKeys(folder / "keys"))
    for name, with_log in (("with the log", True), ("alone", False)):
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        for file in (folder / "data").glob(f"{schema.FILE}*"):
            if with_log or file.name == schema.FILE:
                shutil.copy(file, scratch / file.name)
        conn = schema.connect(scratch / schema.FILE, key, writes=True)
        made[name] = conn.serialize("main")
        made[f"rows {name}"] = rows(conn)
        conn.close()
    made["log"] = b"".join(
        each.read_bytes() for each in (folder / "data").glob(f"{schema.FILE}-wal")
    )
    return made


def rows(conn: apsw.Connection) -> bytes:
    """Every value of every table, unpacked where it can be."""
    found: list[bytes] = []
    bodies = codec.load_bodies(conn)
    tables = conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    for (table,) in tables:
        for row in conn.execute(f"SELECT * FROM {table}"):
            for value in row:
                if isinstance(value, bytes) and table != "dictionary":
                    found += unpacked(value, bodies)
                else:
                    found.append(str(value).encode())
    return b"\n".join(found)


def unpacked(value: bytes, bodies: codec.Bodies) -> list[bytes]:
    found = [value]
    for way in (zlib.decompress, lambda b: zlib.decompress(b, -15), bodies.unpack):
        try:
            found.append(way(value))
        except Exception:
            continue
    return found


def traces(folder: Path, scratch: Path, secrets=SECRETS) -> list[str]:
    """Which secrets stand where, in whatever form."""
    found = []
    for place, data in images(folder, scratch).items():
        lower = data.lower()
        for secret in secrets:
            forms = {secret.lower().encode(), *_encoded(secret)}
            if any((form in lower) or (form in data) for form in forms):
                found.append(f"{secret} {place}")
    return found


def _encoded(secret: str) -> set[bytes]:
    """A text as it looks in base64 at each offset, and a UUID as 16 bytes."""
    made = set()
    for lead in (b"", b"x", b"xx"):
        text = base64.b64encode(lead + secret.encode())
        made.add(text[4 if lead else 0 : -4])
    if len(secret) == 36:
        made.add(UUID(secret).bytes)
    return {each for each in made if len(each) >= 8}


def told(folder: Path, story):
    """Tell a story of a clinic in this folder."""

    async def tell():
        async with open_product(settings(folder)) as product:
            return await story(Clinic(product))

    return asyncio.run(tell())


async def opened(clinic: Clinic) -> list[tuple[str, bytes]]:
    """Everything that can be opened with the keys that there are, by what it is."""
    server = clinic.server

    async def work(tx):
        found = [
            (f"{v.type}/{v.id}/{v.number}", v.body) for v in await tx.history(None, None, 10_000)
        ]
        for space in ("once", "binary", "erasing", "hold", *SPACES):
            found += [
                (f"{space} {each.key}", each.key.encode() + each.value)
                for each in await tx.range(space, "", "\U0010ffff", 10_000)
            ]
        return found

    return await server.store.transaction(work)


SPACES = (
    "smart.account",
    "smart.grant",
    "smart.launch",
    "smart.pending",
    "smart.invitation",
    "smart.device",
    "smart.count",
    "smart.client-grant",
    "smart.account-grant",
    "smart.account-session",
)
