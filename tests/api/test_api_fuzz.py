"""Bytes of any sort lead to objects or to told mistakes, in bounded time and memory.

A coverage-guided fuzzer runs for ISTHMUS_FUZZ_SECONDS (20), from the documents of the tests and from what is
known to be hostile; it comes for Linux on x86-64. Everywhere, hypothesis alters the same documents.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confined import Confinement, came_through, confinement
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.api.documents import read_documents

TESTS = Path(__file__).parents[1]
HARNESS = Path(__file__).parent / "fuzzing" / "decoder.py"
SECONDS = int(os.environ.get("ISTHMUS_FUZZ_SECONDS", "20"))
LARGE = 1 << 20
ROOM_MB = 96
"""What a text of one megabyte may take beside the decoder itself; the largest of these takes about 40."""

HEAD = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: a}\n"
BOMB = (
    HEAD
    + "x: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True)
    )
)
HOSTILE = {
    "aliases that grow": BOMB,
    "long text, many times": HEAD + f"x: &a {'y' * 100_000}\nspec: [{','.join(['*a'] * 10_000)}]\n",
    "an alias of what holds it": HEAD + "spec: &a [*a]\n",
    "an alias of the object that holds it": HEAD + "spec: &a {address: *a}\n",
    "a merge of itself": HEAD + "spec: &a {<<: *a}\n",
    "a deep anchor": HEAD + "spec: " + "{a: " * 400 + "&deep 1" + "}" * 400 + "\nx: *deep\n",
    "lists in lists": HEAD + "spec: " + "[" * 50_000,
    "objects in objects": HEAD + "spec: " + "{a: " * 5_000,
    "deep by indentation": HEAD + "".join(f"{' ' * depth}a:\n" for depth in range(2_000)),
    "many dashes": HEAD + "spec: \n" + "- " * 20_000,
    "NUL": HEAD + "spec: {address: 'a\0b'}\n",
    "an escaped NUL": HEAD + 'spec: {address: "a\\0b"}\n',
    "half a character": HEAD + 'spec: {address: "\\ud800"}\n',
    "twice the same field": HEAD + "spec: {address: a, address: b}\n",
    "a huge whole number": HEAD + f"spec: {{weight: {'9' * 5_000}}}\n",
    "a huge hexadecimal number": HEAD + f"spec: {{weight: 0x{'f' * 100_000}}}\n",
    "a huge number": HEAD + "spec: {weight: 1e999}\n",
    "no number": HEAD + "spec: {weight: .nan}\n",
    "a huge exponent": HEAD + f"spec: {{weight: 1e{'9' * 1_000}}}\n",
    "a long name": HEAD.replace("name: a", f"name: {'a' * LARGE}"),
    "a long field": HEAD + f"spec: {{{'a' * LARGE}: 1}}\n",
    "a field that is a list": HEAD + "spec: {[a, b]: 1}\n",
    "a field that is an object": HEAD + "? {a: b}\n: 1\n",
    "many fields": HEAD + "spec:\n" + "".join(f"  f{number}: 1\n" for number in range(20_000)),
    "many labels": HEAD + "spec:\n  labels:\n" + "".join(f"    k{n}: v\n" for n in range(20_000)),
    "many documents": "---\n" * 100_000,
    "a name in another script": HEAD.replace("name: a", "name: имя-ＡＢＣ-\u202e\u0301"),
    "a name of strange width": HEAD.replace("name: a", "name: ａ"),
    "a tag that makes objects": HEAD + "spec: !!python/object/apply:os.system [ls]\n",
    "a tag that does not fit": HEAD + "spec: {weight: !!bool maybe, a: !!int b, c: !!float d, e: !!null f}\n",
    "a tag of lists": HEAD + "spec: !!pairs [a: 1]\nx: !!omap [a: 1]\ny: !!set {a}\n",
    "a directive": "%YAML 9.9\n%TAG ! x:\n" + HEAD,
    "long text": HEAD + f"spec: {{address: '{'a' * LARGE}'}}\n",
    "long folded text": HEAD + "spec:\n  address: >\n" + "    word\n" * 100_000,
    "many quotes": HEAD + "spec: {address: '" + "''" * 200_000 + "'}\n",
    "many escapes": HEAD + 'spec: {address: "' + "\\n" * 200_000 + '"}\n',
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents to start from, as files for the fuzzer."""
    directory = tmp_path_factory.mktemp("corpus")
    for number, text in enumerate(starts()):
        for door in (0, 2):
            (directory / f"{number}-{door}").write_bytes(bytes([door]) + text.encode())
        for document in read_documents(text, "")[0]:
            (directory / f"{number}-{document.line}-1").write_bytes(
                b"\1" + json.dumps(document.data).encode()
            )
    return directory


def starts() -> Iterator[str]:
    """Small texts that say something."""
    for path in sorted([*TESTS.glob("envoy/golden/*/in.yaml"), *TESTS.glob("api/worlds/*.yaml")]):
        yield from (part for part in path.read_text().split("\n---\n") if len(part) < 2_000)
    yield from (text for text in HOSTILE.values() if len(text) < 2_000)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris comes for Linux on x86-64")
@pytest.mark.timeout(SECONDS + 120)
def test_what_a_fuzzer_finds(corpus: Path, tmp_path: Path) -> None:
    limits = ["-timeout=20", "-rss_limit_mb=2048", "-max_len=4096", "-seed=1", f"-max_total_time={SECONDS}"]
    (tmp_path / "found").mkdir()
    command = [
        sys.executable,
        str(HARNESS),
        *limits,
        f"-artifact_prefix={tmp_path}/",
        f"{tmp_path}/found",
        f"{corpus}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 100, check=False)
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    assert "Done" in done.stderr


@pytest.mark.timeout(120)
@settings(max_examples=60)
@given(st.data())
def test_altered_documents(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(STARTS))
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, min(len(text), begin + 20)))
    odd = st.sampled_from(
        ["*a", "&a ", "!!int ", "\0", "\u2028", "---\n", "- ", "? ", "\t", "1e9", "~", "\ud800"]
    )
    text = text[:begin] + data.draw(st.text(max_size=8) | odd) + text[end:]
    came_through(text)


STARTS = list(starts())


@pytest.fixture(scope="module")
def confined() -> Iterator[Confinement]:
    """Where what a text makes the decoder hold is not lost in what this process holds anyway."""
    with confinement() as found:
        yield found


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.timeout(60)
def test_hostile_texts(confined: Confinement, name: str) -> None:
    ended = confined.read(HOSTILE[name], room_mb=ROOM_MB)
    assert ended.code == 0, ended.said


def test_the_confinement_holds(confined: Confinement) -> None:
    """The same texts fail with less."""
    assert "MemoryError" in confined.read(HOSTILE["many fields"], room_mb=8).said
    ended = confined.read(HOSTILE["many labels"], room_mb=ROOM_MB, cpu_s=1)
    assert ended.code == -signal.SIGXCPU
