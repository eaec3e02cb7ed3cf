import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_nli import WORDS, make_checkpoint

from benchmark.errors import UserError
from benchmark.metrics.nli import CrossEncoderNLI, by_length
from benchmark.metrics.nli_cache import Answer, CachedNLI
from benchmark.runs import Appender

PAIRS = [(f"a {i}.", f"b {j}.") for i in range(5) for j in range(4)]
TEXTS = [" ".join(WORDS[(i * j) % 12] for j in range(1, 3 + i)) for i in range(6)]
SENTENCES = [(a, b) for a in TEXTS for b in TEXTS]


class Stub:
    """Probabilities made of a hash of both texts; it knows what it was asked."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.calls: list[int] = []
        self.stop_at = stop_at

    def __call__(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        if len(self.calls) == self.stop_at:
            raise KeyboardInterrupt
        self.calls.append(len(pairs))
        self.asked += pairs
        rows = [[1 + byte for byte in hashlib.sha256("\n".join(pair).encode()).digest()[:3]] for pair in pairs]
        return np.array(rows) / np.sum(rows, axis=1, keepdims=True)


def cached(stub: Stub, path: Path, identity: str = "stub", **options: object) -> CachedNLI:
    return CachedNLI(stub, path, identity=identity, batch_size=3, **options)  # type: ignore[arg-type]


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answers_are_the_classifiers_own_each_asked_once(tmp_path: Path) -> None:
    stub, path = Stub(), tmp_path / "new folder" / "nli.jsonl"
    first = cached(stub, path)([*PAIRS, *PAIRS])
    assert np.array_equal(first, Stub()([*PAIRS, *PAIRS]))
    assert stub.asked == sorted(PAIRS, key=by_length)
    assert stub.calls == [3] * 6 + [2]
    before = path.read_bytes()
    assert np.array_equal(cached(stub, path)(PAIRS[::-1]), first[: len(PAIRS)][::-1])
    assert len(stub.asked) == len(PAIRS)
    assert path.read_bytes() == before


def test_the_shortest_pairs_are_asked_first(tmp_path: Path) -> None:
    stub = Stub()
    cached(stub, tmp_path / "nli.jsonl")([("aaa", "bb"), ("a", "bbbbbb"), ("cc", "dd"), ("b", "b"), ("a", "b")])
    assert stub.asked == [("a", "b"), ("b", "b"), ("cc", "dd"), ("aaa", "bb"), ("a", "bbbbbb")]


def test_only_what_is_new_is_asked_and_lines_before_it_stay(tmp_path: Path) -> None:
    path = tmp_path / "nli.jsonl"
    cached(Stub(), path)(PAIRS[:7])
    before, stub = path.read_bytes(), Stub()
    assert np.array_equal(cached(stub, path)(PAIRS), Stub()(PAIRS))
    assert sorted(stub.asked) == sorted(PAIRS[7:])
    assert path.read_bytes().startswith(before)


def test_a_pair_its_reverse_and_another_identity_are_three_answers(tmp_path: Path) -> None:
    stub, path = Stub(), tmp_path / "nli.jsonl"
    cached(stub, path)([("a", "b"), ("b", "a"), ("ab", ""), ("", "ab")])
    cached(stub, path, "other weights")([("a", "b")])
    assert len(stub.asked) == len(lines(path)) == len({line["key"] for line in lines(path)}) == 5
    for line in lines(path):
        assert line.keys() == {"key", "chances"}  # No text is in the file.


def test_the_key_is_a_hash_of_what_it_says(tmp_path: Path) -> None:
    found = cached(Stub(), tmp_path / "nli.jsonl").key("é", "\ud800")
    assert found == hashlib.sha256(b'["stub", "\\u00e9", "\\ud800"]').hexdigest()


def test_progress_counts_what_was_there_before(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    path = tmp_path / "nli.jsonl"
    cached(Stub(), path)(PAIRS[:4])
    cached(Stub(), path, progress=lambda done, total: steps.append((done, total)))(PAIRS[:9] * 2)
    assert steps == [(4, 9), (7, 9), (9, 9)]


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    path, before, after = tmp_path / "nli.jsonl", Stub(stop_at=4), Stub()
    with pytest.raises(KeyboardInterrupt):
        cached(before, path)(PAIRS)
    assert len(lines(path)) == len(before.asked) == 12
    assert np.array_equal(cached(after, path)(PAIRS), Stub()(PAIRS))
    assert sorted(before.asked + after.asked) == sorted(PAIRS)


PROCESS = """
import os, signal, sys
from pathlib import Path
import numpy as np
from benchmark.metrics.nli_cache import CachedNLI

def classify(pairs):
    with open(sys.argv[2], "a") as asked:
        asked.writelines(f"{a}|{b}\\n" for a, b in pairs)
    if sum(1 for _ in open(sys.argv[2])) == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.full((len(pairs), 3), 1 / 3)

pairs = [(f"a {i}.", f"b {j}.") for i in range(5) for j in range(4)]
CachedNLI(classify, Path(sys.argv[1]), identity="stub", batch_size=3)(pairs)
"""


def test_a_killed_process_goes_on_and_nothing_that_was_written_is_asked_again(tmp_path: Path) -> None:
    path, asked = tmp_path / "nli.jsonl", tmp_path / "asked"
    root = Path(__file__).resolve().parents[3]
    for expected in (-signal.SIGKILL, 0):
        process = subprocess.run(
            [sys.executable, "-c", PROCESS, str(path), str(asked)],
            env=os.environ | {"PYTHONPATH": str(root)},
            stderr=subprocess.DEVNULL,
        )
        assert process.returncode == expected
        if expected:
            assert len(lines(path)) == 9  # The batch in which it died was not answered.
    told = asked.read_text().splitlines()
    assert told[9:12] == told[12:15]
    assert len(set(told)) == len(told) - 3 == len(lines(path)) == len(PAIRS)


def test_a_last_line_torn_anywhere_costs_that_answer_alone(tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    expected = cached(Stub(), whole)(PAIRS[:4])
    data = whole.read_bytes()
    last = data.rfind(b"\n", 0, -1) + 1
    for end in range(last + 1, len(data)):
        torn.write_bytes(data[:end])
        stub = Stub()
        assert np.array_equal(cached(stub, torn)(PAIRS[:4]), expected)
        assert stub.calls == [1]
        assert torn.read_bytes() == data


def test_two_processes_never_write_one_file(tmp_path: Path) -> None:
    path, stub = tmp_path / "nli.jsonl", Stub()
    other = Appender(path)
    with pytest.raises(UserError, match=r"nli\.jsonl: another process is writing it"):
        cached(stub, path)(PAIRS)
    other.close()
    assert len(cached(stub, path)(PAIRS)) == len(PAIRS)
    assert len(stub.asked) == len(PAIRS)


@pytest.mark.parametrize(
    "line",
    [
        "not JSON",
        "{}",
        '{"key": "0", "chances": [0, 0, 1]}',
        '{"key": "' + "0" * 64 + '", "chances": [0, 1]}',
        '{"key": "' + "0" * 64 + '", "chances": [0, -1, 2]}',
        '{"key": "' + "0" * 64 + '", "chances": [0, NaN, 1]}',
    ],
)
def test_a_line_that_is_no_answer_is_named(tmp_path: Path, line: str) -> None:
    path, stub = tmp_path / "nli.jsonl", Stub()
    cached(stub, path)(PAIRS[:1])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"nli\.jsonl:2: not an answer of an NLI classifier: .*move the file away"):
        cached(stub, path)(PAIRS)
    assert stub.asked == PAIRS[:1]


@pytest.mark.parametrize("row", [[np.nan, 0.5, 0.5], [0.5, 0.5, 0.5], [1.0, 0.0]])
def test_what_is_no_distribution_is_never_kept(tmp_path: Path, row: list[float]) -> None:
    path = tmp_path / "nli.jsonl"
    with pytest.raises(ValueError, match="classifier"):
        CachedNLI(lambda pairs: np.array([row] * len(pairs)), path, identity="bad")(PAIRS)
    assert not path.exists()


def test_no_pairs_ask_and_write_nothing(tmp_path: Path) -> None:
    path, stub = tmp_path / "nli.jsonl", Stub()
    assert cached(stub, path)([]).shape == (0, 3)
    assert not path.exists()


def test_numbers_come_back_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "nli.jsonl"
    rows = np.random.default_rng(0).dirichlet([0.01] * 3, len(PAIRS))
    given = dict(zip(PAIRS, rows, strict=True))
    first = CachedNLI(lambda pairs: np.array([given[pair] for pair in pairs]), path, identity="x")(PAIRS)
    assert np.array_equal(first, rows)
    assert np.array_equal(cached(Stub(), path, "x")(PAIRS), rows)
    assert all(Answer.model_validate(line, strict=False) for line in lines(path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("nli"))


def test_a_cross_encoder_that_was_interrupted_gives_the_same_bits(folder: Path, tmp_path: Path) -> None:
    model = CrossEncoderNLI(str(folder), device="cpu", batch_size=4)
    path, expected = tmp_path / "nli.jsonl", model(SENTENCES)
    stop = 12

    def interrupt(known: int, total: int) -> None:
        if known == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CachedNLI(model, path, identity=model.identity, batch_size=4, progress=interrupt)(SENTENCES)
    assert len(lines(path)) == stop
    whole = CachedNLI(model, path, identity=model.identity, batch_size=4)
    assert np.array_equal(whole(SENTENCES), expected)
    assert len(lines(path)) == len(set(SENTENCES))


def test_an_identity_is_of_the_weights_and_the_limit_and_of_no_path(folder: Path, tmp_path: Path) -> None:
    identity = CrossEncoderNLI(str(folder), device="cpu").identity
    assert identity.endswith(", 24 tokens")
    assert str(folder.parent) not in identity
    same = make_checkpoint(tmp_path / "same")
    assert CrossEncoderNLI(str(same), device="cpu").identity == identity
    other = make_checkpoint(tmp_path / "other", seed=1)
    assert CrossEncoderNLI(str(other), device="cpu").identity != identity
    config = json.loads((same / "tokenizer_config.json").read_text())
    (same / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": 8}))
    assert CrossEncoderNLI(str(same), device="cpu").identity.endswith(", 8 tokens")


def test_weights_of_which_nothing_tells_the_commit_have_no_identity(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = CrossEncoderNLI(str(folder), device="cpu")
    model.name = "nobody/knows-this-model"
    with pytest.raises(UserError, match="the commit of NLI classifier nobody/knows-this-model is not known"):
        _ = model.identity
