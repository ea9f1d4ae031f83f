"""The recipe of docs/smart.md, line by line in a shell, with a person at the browser in between."""

import json
import re
import subprocess
import sys
from pathlib import Path
from shlex import quote

from tests.clients.demonstration import Demonstration

PAGE = Path(__file__).parents[2] / "docs" / "smart.md"


def shell(demo: Demonstration, script: str) -> str:
    """What a shell prints in which `salus` is about the demo."""
    folders = f"--data {quote(str(demo.data))} --keys {quote(str(demo.keys))}"
    salus = f'salus() {{ {quote(sys.executable)} -m salus "$@" {folders}; }}\n'
    done = subprocess.run(
        ["bash", "-euc", salus + script],
        capture_output=True,
        text=True,
        env=demo.environment,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_a_launch_by_hand_works_as_it_is_written(demo, patients):
    text = PAGE.read_text(encoding="utf-8").partition("By hand, ")[2]
    recipe = re.search(r"```\n(.*?)```", text, re.DOTALL)
    assert recipe
    script = recipe[1].replace("http://127.0.0.1:8080", demo.base)
    first, second, third = re.split(r"# 2\..*\n|# 3\..*\n", script)

    printed = shell(demo, first + "\necho $VERIFIER").strip().splitlines()
    url, verifier = printed[-2:]
    back = demo.browser("doctor").authorize(url, patients[1])
    assert back.startswith("http://127.0.0.1/back?code=")

    code = back.partition("code=")[2].partition("&")[0]
    known = f"BASE={demo.base}\nVERIFIER={verifier}\n"
    token = json.loads(shell(demo, known + second.replace("CODE", code, 1)))
    assert token["patient"] == patients[1]

    found = json.loads(shell(demo, known + third.replace("TOKEN", token["access_token"])))
    subjects = {entry["resource"]["subject"]["reference"] for entry in found["entry"]}
    assert subjects == {f"Patient/{patients[1]}"}
