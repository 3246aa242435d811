"""What a bench says of its claims."""

import json
from pathlib import Path

import pytest

from bench import report
from bench.report import BenchError, Claim


@pytest.mark.parametrize(
    ("figure", "verdict"), [(0.9, "goal"), (1.0, "goal"), (1.01, "floor"), (1.15, "floor"), (1.151, "missed")]
)
def test_a_figure_is_judged_by_goal_and_floor(figure: float, verdict: str) -> None:
    assert verdict == Claim("c", "", figure, floor=1.15, goal=1.0).verdict


def test_what_has_no_goal_keeps_its_floor_or_misses_it() -> None:
    assert ["floor", "missed"] == [Claim("c", "", figure, floor=1.0).verdict for figure in (0.2, 1.2)]


def test_what_promises_nothing_is_only_measured() -> None:
    assert "measured" == Claim("c", "", 12.0, unit="us").verdict


def test_a_ratio_to_nothing_is_no_ratio() -> None:
    assert 1.25 == report.ratio(5.0, 4.0)
    with pytest.raises(BenchError, match="nothing was measured"):
        report.ratio(5.0, 0.0)


def test_every_claim_has_a_file_with_machine_commit_and_both_sides(tmp_path: Path) -> None:
    sides = {"ours": {"median": 5.0}, "theirs": {"median": 4.0}}
    claims = [Claim("one", "one thing", 1.25, floor=2.0, goal=1.0, sides=sides), Claim("two", "another", 3.0)]

    code = report.run([lambda: claims], as_json=False, folder=tmp_path / "results")

    written = json.loads((tmp_path / "results" / "one.json").read_text())
    assert (0, {"one.json", "two.json"}) == (code, {path.name for path in (tmp_path / "results").iterdir()})
    assert ("one", 1.25, 2.0, 1.0, "floor") == tuple(
        written[key] for key in ("claim", "figure", "floor", "goal", "verdict")
    )
    assert sides == written["sides"]
    assert written["commit"]
    assert {"cpu", "cores", "calibration_ms", "calibration_after_ms"} <= written["machine"].keys()


def test_a_bench_that_cannot_measure_fails_the_run_but_not_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> list[Claim]:
        raise BenchError("h2load is missing")

    code = report.run([broken, lambda: [Claim("two", "another", 3.0)]], as_json=True, folder=tmp_path)

    said = capsys.readouterr()
    assert (1, "bench: h2load is missing\n") == (code, said.err)
    assert ["two"] == [claim["claim"] for claim in json.loads(said.out)]


def test_the_table_has_a_line_for_each_claim() -> None:
    claims = [Claim("hop", "", 1.1, floor=1.15, goal=1.0), Claim("publish", "", 0.65, unit="s", floor=1.0)]

    assert [
        "claim    figure  floor  goal  verdict",
        "hop      1.1     1.15   1     floor",
        "publish  0.65 s  1            floor",
    ] == report.table(claims).splitlines()
