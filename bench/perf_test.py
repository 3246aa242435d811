"""RabbitMQ's own PerfTest, a Java program that Maven fetches once into `build/java`."""

import re
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Final

from bench.report import ROOT, BenchError

VERSION: Final = "2.22.1"
_LIBRARY: Final = ROOT / "build" / "java" / f"perf-test-{VERSION}"
_PROJECT: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>weft</groupId><artifactId>bench</artifactId><version>1</version><dependencies><dependency>
<groupId>com.rabbitmq</groupId><artifactId>perf-test</artifactId><version>{VERSION}</version>
</dependency></dependencies></project>
"""
_FETCH_TIMEOUT_S: Final = 900.0
_CONFIRMED: Final = re.compile(r"time ([0-9.]+) s, .*confirmed: ([0-9]+) msg/s")
#: A virtual machine compiles what it runs; what it does before is not what it can do.
WARM_S: Final = 4.0


def available() -> bool:
    """Whether this machine has what runs it."""
    return shutil.which("java") is not None and (_LIBRARY.is_dir() or shutil.which("mvn") is not None)


def confirmed_rate(arguments: list[str], *, seconds: int) -> float:
    """Messages confirmed a second, the median of its seconds once it is warm. Raises BenchError."""
    command = ["java", "-cp", f"{_library()}/*", "com.rabbitmq.perf.PerfTest", *arguments, "-z", str(seconds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
    except subprocess.TimeoutExpired as error:
        raise BenchError("PerfTest did not end") from error
    return rate_of(done.stdout, done.stderr)


def rate_of(output: str, complaint: str = "") -> float:
    """The rate that PerfTest's lines tell. Raises BenchError where there are none of a warm second."""
    rates = [float(rate) for at, rate in _CONFIRMED.findall(output) if float(at) > WARM_S]
    if not rates:
        raise BenchError(f"PerfTest measured nothing: {(complaint or output).strip()[-500:]}")
    return statistics.median(rates)


def _library() -> Path:
    if not _LIBRARY.is_dir():
        made = _LIBRARY.with_suffix(".part")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        (made / "pom.xml").write_text(_PROJECT)
        command = ["mvn", "-q", "-B", "-f", str(made / "pom.xml"), "dependency:copy-dependencies"]
        try:
            done = subprocess.run(
                [*command, f"-DoutputDirectory={made}"],
                capture_output=True,
                text=True,
                timeout=_FETCH_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"PerfTest was not fetched within {_FETCH_TIMEOUT_S:.0f} s") from error
        if done.returncode != 0:
            raise BenchError(f"PerfTest was not fetched: {done.stdout.strip()[-500:]}")
        made.rename(_LIBRARY)
    return _LIBRARY
