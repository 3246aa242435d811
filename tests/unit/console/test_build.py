"""What the page is built from and to: its own tests, its size, and that it asks for nothing but itself."""

import gzip
import re
import subprocess
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "build" / "console"
#: Bytes by gzip of all that the first sight of the page loads.
FIRST_SIGHT_MAX = 150_000


def test_the_models_of_the_page_do_what_their_own_tests_say(console: Path) -> None:
    ran = subprocess.run([console / "npm", "run", "--silent", "test"], capture_output=True, text=True, check=False)

    assert 0 == ran.returncode, ran.stdout + ran.stderr


def test_the_first_sight_of_the_page_is_small() -> None:
    index = (PAGE / "index.html").read_text()
    loaded = [PAGE / name for name in re.findall(r'(?:src|href)="\./([^"]+)"', index)]
    size = sum(len(gzip.compress(file.read_bytes())) for file in [PAGE / "index.html", *loaded])
    print(f"first sight: {size} bytes by gzip in {len(loaded) + 1} files")

    assert len(loaded) >= 3
    assert FIRST_SIGHT_MAX > size


def test_the_page_runs_under_a_policy_that_allows_nothing_inline() -> None:
    index = (PAGE / "index.html").read_text()

    assert [] == re.findall(r"<script(?![^>]*\bsrc=)|<style|\bon[a-z]+=|\bstyle=|javascript:", index)
    for script in PAGE.glob("assets/*.js"):
        assert [] == re.findall(r"\beval\(|new Function\(", script.read_text()), script.name


def test_the_page_names_no_other_place() -> None:
    names = {
        found
        for file in PAGE.rglob("*")
        if file.suffix in {".html", ".js", ".css", ".svg"}
        for found in re.findall(r"https?://([\w.-]+\.\w+)", file.read_text())
    }

    # Names of XML's languages, which nobody asks for, and what a runbook or a message may say.
    assert names <= {"www.w3.org"}


def test_each_alert_s_runbook_can_be_read_in_the_page(console: Path) -> None:
    books = {book.stem for book in (console.parent / "docs" / "runbooks").glob("*.md")}
    built = {script.name.rpartition("-")[0] for script in PAGE.glob("assets/*.js")}

    assert len(books) > 20
    # Names are hashed with letters that may be a dash themselves.
    assert {book for book in books if not any(name.startswith(book) for name in built)} == set()
