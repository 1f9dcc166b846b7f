"""Apache Kafka's own jars without Docker: resolved by Maven once, kept outside the repository, checked each time.

~/.cache/trading-ml-inference/kafka-4.1.0/     (XDG_CACHE_HOME is honoured)
    lib/*.jar        the runtime dependencies of org.apache.kafka:kafka_2.13
    complete.json    sha256 of each jar; written last, the folder is then renamed into its place
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

VERSION = "4.1.0"
JAVA_AT_LEAST = 17
_MAVEN_TIMEOUT_S = 80
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8"
_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <!-- The back end of the slf4j-api that Kafka brings; without one its log goes nowhere. -->
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


class Unavailable(Exception):
    """There is no real Kafka to be had on this machine; the message says what is missing."""


def cache_folder() -> Path:
    """Where this project keeps what it downloads for tests."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "trading-ml-inference"


def java() -> str:
    """The java program; raises `Unavailable` where there is none, or an old one."""
    found = shutil.which("java")
    if found is None:
        raise Unavailable(f"no java on the PATH (Java {JAVA_AT_LEAST} or newer is needed)")
    said = subprocess.run([found, "-version"], check=False, capture_output=True, text=True, timeout=60).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version.group(1)) < JAVA_AT_LEAST:
        raise Unavailable(f"Java {JAVA_AT_LEAST} or newer is needed, {found} says: {said.splitlines()[:1]}")
    return found


def library(cache: Path | None = None) -> Path:
    """The folder of Kafka's jars, fetched where it is absent or damaged; raises `Unavailable` where that cannot be done."""
    place = (cache or cache_folder()) / f"kafka-{VERSION}"
    if is_whole(place):
        return place / "lib"
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable(f"no mvn on the PATH to fetch Apache Kafka {VERSION} with, and none of it in {place}")
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="kafka-begun-") as scratch:
        built = Path(scratch) / "kafka"
        _fetch(maven, built)
        seal(built)
        if place.exists() and not is_whole(place):
            shutil.rmtree(place)
        try:
            built.rename(place)
        except OSError:  # another process was quicker
            if not is_whole(place):
                raise
    return place / "lib"


def seal(place: Path) -> None:
    """Write down what the folder holds: from now on it is whole."""
    jars = sorted((place / "lib").glob("*.jar"))
    (place / "complete.json").write_text(json.dumps({j.name: _sha256(j) for j in jars}, indent=1), encoding="utf-8")


def is_whole(place: Path) -> bool:
    """Whether the folder holds what it held when it was sealed."""
    try:
        listed: dict[str, str] = json.loads((place / "complete.json").read_text(encoding="utf-8"))
        return bool(listed) and all(_sha256(place / "lib" / name) == digest for name, digest in listed.items())
    except (OSError, ValueError):
        return False


def _fetch(maven: str, place: Path) -> None:
    place.mkdir()
    (place / "pom.xml").write_text(_POM, encoding="utf-8")
    command = [maven, "-B", "-C", "-f", str(place / "pom.xml"), f"{_PLUGIN}:copy-dependencies"]
    try:
        done = subprocess.run(
            [*command, f"-DoutputDirectory={place / 'lib'}", "-DincludeScope=runtime"],
            check=False,
            capture_output=True,
            text=True,
            timeout=_MAVEN_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as e:
        raise Unavailable(f"Maven did not fetch Apache Kafka {VERSION} within {_MAVEN_TIMEOUT_S} s") from e
    if done.returncode != 0:
        errors = [line for line in done.stdout.splitlines() if line.startswith("[ERROR]")]
        raise Unavailable(f"Maven could not fetch Apache Kafka {VERSION}: {(errors or [done.stderr.strip()])[0][:300]}")


def _sha256(file: Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
