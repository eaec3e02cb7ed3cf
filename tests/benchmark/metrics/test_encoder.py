import math
import socket
from itertools import combinations

import numpy as np
import pytest

from benchmark.errors import UserError
from benchmark.metrics import encoder as encoders
from benchmark.metrics import sentence_bert
from benchmark.metrics.encoder import Encoder
from tasks.pocket.world import document, fresh_reference


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the encoder reached for the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        made = Encoder(threads=1)
        made.encode(["warm"])
        return made


TEXTS = ["the cat sat", "a cat was sitting", "stock markets fell", "", "the cat sat"]


def test_rows_are_unit_float32_in_input_order(encoder: Encoder) -> None:
    rows = encoder.encode(TEXTS)
    assert rows.shape == (5, 384)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    assert np.array_equal(rows[0], rows[4])
    assert rows[0] @ rows[1] > 0.5 > rows[0] @ rows[2]


def test_order_of_texts_does_not_matter(encoder: Encoder) -> None:
    assert np.array_equal(encoder.encode(TEXTS[::-1]), encoder.encode(TEXTS)[::-1])


def test_every_different_text_is_encoded_once(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    plain = encoder._model.encode

    def spy(texts: list[str], **options: object) -> object:
        seen.extend(texts)
        return plain(texts, **options)

    monkeypatch.setattr(encoder._model, "encode", spy)
    monkeypatch.setattr(encoders, "_CHUNK", 3)
    steps: list[tuple[int, int]] = []
    monkeypatch.setattr(encoder, "_progress", lambda done, total: steps.append((done, total)))
    encoder.encode(TEXTS * 3)
    assert seen == sorted(set(TEXTS))
    assert steps == [(3, 4), (4, 4)]


def test_diversity_of_embeddings_equals_all_pairs(encoder: Encoder) -> None:
    rows = encoder.encode(TEXTS)
    expected = np.mean([1 - a @ b for a, b in combinations(rows.astype(float), 2)])
    assert float(sentence_bert.per_input(rows)) == pytest.approx(float(expected), abs=1e-6)


def test_truncated_share_is_over_different_texts(encoder: Encoder) -> None:
    fits, spills = "word " * (encoder.max_tokens - 2), "word " * (encoder.max_tokens - 1)
    assert encoder.truncated_share([fits]) == 0
    assert encoder.truncated_share([spills]) == 1
    assert encoder.truncated_share([spills, spills, fits, "", "a"]) == 0.25
    assert math.isnan(encoder.truncated_share([]))


def test_no_texts_give_no_rows(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_threads_are_put_back(encoder: Encoder) -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    encoder.encode(["a"])
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == 2


def test_autocast_is_used_where_the_cpu_has_it_and_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(encoders, "has_native_bfloat16", lambda native=native: native)
        assert Encoder().precision == precision
        assert Encoder(precision="float32").precision == "float32"


def test_autocast_moves_no_prompts_diversity_by_a_thousandth() -> None:
    if not encoders.has_native_bfloat16():
        pytest.skip("this CPU has no native bfloat16, so nothing is autocast")
    docs = [document("ood", number) for number in range(20)]
    texts = [fresh_reference(doc, number, 0) for doc in docs for number in range(16)]
    exact, fast = (
        sentence_bert.per_input(Encoder(precision=p, threads=1).encode(texts).reshape(20, 16, -1))
        for p in ("float32", "auto")
    )
    assert 0 < np.abs(exact - fast).max() < 1e-3
    assert abs(exact.mean() - fast.mean()) < 3e-4


def test_an_unknown_encoder_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="all-minilm-l6-v2"):
        Encoder("bert-large")


def test_loading_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    Encoder().encode(["a", "b"])
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
