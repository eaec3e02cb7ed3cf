import json
import math
import os
import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_nli import ORDERS, WORDS, make_checkpoint

from benchmark.errors import UserError
from benchmark.metrics import nli

FIXED = settings(derandomize=True, deadline=None, max_examples=60)
SENTENCES = st.sampled_from(["Yes.", "No!", "It may be so.", "Is it?", "..."])
TEXT = st.lists(SENTENCES, max_size=4).map(" ".join)
SETS = st.integers(0, 6).flatmap(lambda k: st.lists(st.lists(TEXT, min_size=k, max_size=k), min_size=1, max_size=3))
FORMS = {"nli": nli.nli, "nli_released_code": nli.nli_released_code, "nli_paper_table": nli.nli_paper_table}


def always(*chances: float) -> nli.Classifier:
    return lambda pairs: np.array([chances] * len(pairs), float)


def invented(pairs: list[tuple[str, str]]) -> np.ndarray:
    """Some probabilities of each pair, unlike in its two directions."""
    seeds = [sum((place + 1) * ord(letter) for place, letter in enumerate(a + "|" + b)) for a, b in pairs]
    return np.array([np.random.default_rng(seed).dirichlet([0.5] * 3) for seed in seeds])


def slow_pair(a: str, b: str, form: str, most: int | None) -> float:
    """Mean over pairs of sentences, one at a time; in the classifier's three numbers and nothing else."""
    found = []
    for x in nli.sentences(a, most):
        for y in nli.sentences(b, most):
            there, back = invented([(x, y)])[0], invented([(y, x)])[0]
            if form == "nli":
                found.append((there[2] - there[0] + back[2] - back[0]) / 2)
                continue
            signed = 0.0
            for entailment, neutral, contradiction in (there, back):
                if contradiction > max(entailment, neutral):
                    signed += contradiction
                elif entailment > neutral:
                    signed -= entailment
            found.append(signed if form == "nli_paper_table" else 1 - signed)
    return float(np.mean(found)) if found else math.nan


def slow_set(texts: list[str], pairs: list[tuple[int, int]], form: str, most: int | None) -> float:
    found = [slow_pair(texts[i], texts[j], form, most) for i, j in pairs]
    found = [value for value in found if not math.isnan(value)]
    return float(np.mean(found)) if found else math.nan


def test_the_released_code_prefers_identical_outputs_and_ours_does_not() -> None:
    alike, unlike = always(1.0, 0.0, 0.0), always(0.0, 0.0, 1.0)
    texts = [["A.", "B."]]
    assert nli.per_input(texts, alike)[0] == -1 < nli.per_input(texts, unlike)[0] == 1
    code = [nli.per_input(texts, classify, form="nli_released_code")[0] for classify in (alike, unlike)]
    assert code == [3, -1]
    table = [nli.per_input(texts, classify, form="nli_paper_table")[0] for classify in (alike, unlike)]
    assert table == [-2, 2]


def test_probabilities_count_in_full_and_not_the_likeliest_label_alone() -> None:
    chances = np.array([0.4, 0.35, 0.25])
    assert float(nli.nli(chances, chances)) == pytest.approx(-0.15)
    assert float(nli.nli_paper_table(chances, chances)) == pytest.approx(-0.8)


@pytest.mark.parametrize("form", FORMS)
@FIXED
@given(sets=SETS, neighbours=st.sampled_from([None, 1, 2]), most=st.sampled_from([None, 0, 1, 2]))
def test_values_equal_the_definition(
    form: str, sets: list[list[str]], neighbours: int | None, most: int | None
) -> None:
    k = len(sets[0])
    pairs = [(int(i), int(j)) for i, j in nli.cyclic_pairs(k, neighbours)]
    options = {"form": form, "neighbours": neighbours, "max_sentences": most}
    expected = np.array([slow_set(texts, pairs, form, most) for texts in sets])
    assert nli.per_input(sets, invented, **options) == pytest.approx(expected, nan_ok=True)  # type: ignore[arg-type]
    value, without = nli.across_input(sets, invented, **options)  # type: ignore[arg-type]
    assert value == pytest.approx(expected, nan_ok=True)
    left = [[slow_set(texts, [p for p in pairs if i not in p], form, most) for i in range(k)] for texts in sets]
    assert without == pytest.approx(np.array(left).reshape(len(sets), k), nan_ok=True)


@FIXED
@given(st.lists(TEXT, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_order_of_outputs_does_not_matter_where_all_pairs_are_compared(texts: list[str], random: object) -> None:
    mixed = random.sample(texts, len(texts))  # type: ignore[attr-defined]
    found = nli.per_input([texts, mixed], invented, neighbours=None)
    assert found[0] == pytest.approx(found[1], nan_ok=True)


@FIXED
@given(st.integers(0, 17), st.sampled_from([None, 1, 2, 3, 100]))
def test_cyclic_pairs_are_different_and_spread_evenly(k: int, neighbours: int | None) -> None:
    pairs = [tuple(sorted(pair)) for pair in nli.cyclic_pairs(k, neighbours).tolist()]
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) <= set(combinations(range(k), 2))
    if neighbours is None or neighbours >= k // 2:
        assert set(pairs) == set(combinations(range(k), 2))
    else:
        assert len(pairs) == k * neighbours
    touches = np.bincount(np.array(pairs, int).reshape(-1), minlength=k)
    assert len(set(touches.tolist())) <= 1


def test_the_circle_saves_most_calls() -> None:
    asked: list[int] = []

    def count(pairs: list[tuple[str, str]]) -> np.ndarray:
        asked.append(len(pairs))
        return invented(pairs)

    texts = [[f"Prompt {i} and output {j}." for j in range(16)] for i in range(3)]
    nli.per_input(texts, count)
    nli.per_input(texts, count, neighbours=None)
    assert asked == [3 * 32, 3 * 240]


def test_every_pair_of_sentences_is_asked_about_once_for_all_prompts() -> None:
    asked: list[tuple[str, str]] = []

    def spy(pairs: list[tuple[str, str]]) -> np.ndarray:
        asked.extend(pairs)
        return invented(pairs)

    nli.per_input([["A. B.", "A.", "B."], ["B.", "A.", "A."]], spy)
    assert sorted(asked) == [("A.", "A."), ("A.", "B."), ("B.", "A."), ("B.", "B.")]


def test_outputs_without_a_sentence_are_left_out_and_nothing_is_missing_as_zero() -> None:
    some = nli.per_input([["A.", "B.", "", "..."], ["A.", "", "\n", "?"], ["", "", "", ""]], invented, neighbours=None)
    assert some[0] == pytest.approx(nli.per_input([["A.", "B."]], invented)[0])
    assert np.isnan(some).tolist() == [False, True, True]


def test_fewer_than_two_texts_are_missing_and_ask_nothing() -> None:
    def refuse(pairs: list[tuple[str, str]]) -> np.ndarray:
        raise AssertionError(pairs)

    for texts in ([["A."], ["B."]], [[], []]):
        assert np.isnan(nli.per_input(texts, refuse)).tolist() == [True, True]
        value, without = nli.across_input(texts, refuse)
        assert np.isnan(value).tolist() == [True, True]
        assert without.shape == (2, len(texts[0]))
        assert np.isnan(without).all()
    assert nli.per_input([], refuse).shape == (0,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("One\n- two\r\n\n3", ["One", "- two", "3"]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("Pi is 3.14 or so", ["Pi is 3.14 or so"]),
        ("好。不好！", ["好。", "不好！"]),
        ("... !? \n --", []),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert nli.sentences(text, None) == expected


def test_kept_sentences_are_spread_over_the_text() -> None:
    text = " ".join(f"S{i}." for i in range(10))
    assert nli.sentences(text, 5) == ["S0.", "S2.", "S4.", "S6.", "S8."]
    assert nli.sentences(text, 3) == ["S0.", "S3.", "S6."]
    assert len(nli.sentences(text, 11)) == 10
    assert nli.sentences(f" {text}\n", 0) == [text]
    assert nli.sentences("...", 0) == []


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="same number"):
        nli.per_input([["A."], ["A.", "B."]], invented)
    with pytest.raises(ValueError, match="neighbours"):
        nli.per_input([["A.", "B."]], invented, neighbours=0)
    with pytest.raises(ValueError, match="max_sentences"):
        nli.per_input([["A.", "B."]], invented, max_sentences=-1)
    with pytest.raises(ValueError, match="form"):
        nli.per_input([["A.", "B."]], invented, form="nil")  # type: ignore[arg-type]


@pytest.mark.parametrize("chances", [(0.5, 0.5, 0.5), (1.5, -0.5, 0.0), (math.nan, 0.5, 0.5), (0.5, 0.5)])
def test_what_is_no_distribution_is_refused(chances: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="classifier"):
        nli.per_input([["A.", "B."]], always(*chances))


@pytest.fixture(scope="module", params=list(ORDERS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def checkpoint(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp(kind), kind)


@pytest.fixture(scope="module")
def classifier(checkpoint: Path) -> nli.CrossEncoderNLI:
    return nli.CrossEncoderNLI(str(checkpoint), device="cpu", batch_size=3)


PAIRS = [
    ("yes it is .", "no !"),
    ("no !", "yes it is ."),
    ("red", "red"),
    ("yes it is .", "no !"),
    ("blue may be green .", "it is so red !"),
    ("", "so"),
]


def alone(checkpoint: Path, kind: str, a: str, b: str) -> list[float]:
    """Probabilities of one pair, its ids written by hand, without a batch and without padding."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    first, second = ([4 + WORDS.index(word) for word in text.split()] for text in (a, b))
    between = [3] if kind == "bert" else [3, 3]
    ids = [2, *first, *between, *second, 3]
    types = [0] * (len(first) + 2) + [1] * (len(second) + 1)
    inputs = {"input_ids": torch.tensor([ids])}
    if kind == "bert":
        inputs["token_type_ids"] = torch.tensor([types])
    with torch.no_grad():
        chances = model(**inputs).logits[0].softmax(-1).tolist()
    by_label = {label.lower(): chance for label, chance in zip(ORDERS[kind], chances, strict=True)}
    return [by_label["entailment"], by_label["neutral"], by_label["contradiction"]]


def test_a_cross_encoder_gives_the_models_own_probabilities_under_the_right_labels(
    classifier: nli.CrossEncoderNLI, checkpoint: Path, kind: str
) -> None:
    found = classifier(PAIRS)
    assert found.dtype == np.float64
    assert found.sum(axis=1) == pytest.approx(np.ones(len(PAIRS)))
    expected = np.array([alone(checkpoint, kind, a, b) for a, b in PAIRS])
    assert found == pytest.approx(expected, abs=1e-5)
    assert np.abs(found[0] - found[1]).max() > 0.01  # Direction matters.
    assert np.abs(found - found[:, ::-1]).max() > 0.1  # And so do the labels.


def test_diversity_with_a_cross_encoder_equals_the_probabilities_put_together_by_hand(
    classifier: nli.CrossEncoderNLI, checkpoint: Path, kind: str
) -> None:
    outputs = ["yes it is . red !", "no !"]
    expected = 0.0
    for sentence in ("yes it is .", "red !"):
        for a, b in ((sentence, "no !"), ("no !", sentence)):
            entailment, _, contradiction = alone(checkpoint, kind, a, b)
            expected += (contradiction - entailment) / 4
    assert nli.per_input([outputs], classifier)[0] == pytest.approx(expected, abs=1e-5)


def test_equal_pairs_are_computed_once(classifier: nli.CrossEncoderNLI, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int]] = []
    monkeypatch.setattr(classifier, "_progress", lambda done, total: steps.append((done, total)))
    found = classifier(PAIRS)
    assert steps == [(3, 5), (5, 5)]
    assert np.array_equal(found[0], found[3])
    assert classifier([]).shape == (0, 3)


def test_of_a_pair_that_is_too_long_something_of_both_is_read(classifier: nli.CrossEncoderNLI, kind: str) -> None:
    assert classifier.max_tokens == {"bert": 24, "roberta": 25}[kind]
    long = "red " * 100
    found = classifier([(long, "yes it is ."), (long, "no no no ."), ("blue", long), ("green", long)])
    assert np.isfinite(found).all()
    assert np.abs(found[0] - found[1]).max() > 1e-3
    assert np.abs(found[2] - found[3]).max() > 1e-3


def edited(checkpoint: Path, folder: Path, **changes: object) -> str:
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return str(folder)


@pytest.mark.parametrize(
    "labels",
    [
        ["LABEL_0", "LABEL_1", "LABEL_2"],
        ["entailment", "not_entailment"],
        ["entailment", "neutral", "contradiction", "other"],
        ["entailment", "entailment", "contradiction"],
        ["entailment", "Entailment", "neutral", "contradiction"],
    ],
)
def test_other_labels_are_the_users_mistake(checkpoint: Path, tmp_path: Path, labels: list[str]) -> None:
    name = edited(
        checkpoint,
        tmp_path / "model",
        id2label={str(i): label for i, label in enumerate(labels)},
        label2id={label: i for i, label in enumerate(labels)},
    )
    with pytest.raises(UserError, match="must have entailment, neutral, contradiction") as caught:
        nli.CrossEncoderNLI(name)
    assert "config.json" in str(caught.value)


def test_a_checkpoint_without_a_trained_head_is_the_users_mistake(checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    name = edited(checkpoint, tmp_path / "model")
    weights = load_file(f"{name}/model.safetensors")
    save_file(
        {key: value for key, value in weights.items() if not key.startswith("classifier")},
        f"{name}/model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(UserError, match="no weights for classifier"):
        nli.CrossEncoderNLI(name)


def test_weights_that_are_not_safetensors_are_not_read(checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    name = edited(checkpoint, tmp_path / "model")
    torch.save(load_file(f"{name}/model.safetensors"), f"{name}/pytorch_model.bin")
    os.remove(f"{name}/model.safetensors")
    with pytest.raises(UserError, match="cannot be loaded"):
        nli.CrossEncoderNLI(name)


def test_code_in_a_checkpoint_is_not_run(checkpoint: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    name = edited(
        checkpoint,
        tmp_path / "model",
        model_type="foreign",
        auto_map={"AutoConfig": "code.C", "AutoModelForSequenceClassification": "code.M"},
    )
    Path(name, "code.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    with pytest.raises(UserError, match="cannot be loaded"):
        nli.CrossEncoderNLI(name)
    assert not mark.exists()


def test_a_folder_that_is_no_checkpoint_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a Hugging Face checkpoint"):
        nli.CrossEncoderNLI(str(tmp_path))


def test_a_tokenizer_that_cannot_pad_is_the_users_mistake(checkpoint: Path, tmp_path: Path) -> None:
    name = edited(checkpoint, tmp_path / "model")
    path = Path(name, "tokenizer_config.json")
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "pad_token"}))
    with pytest.raises(UserError, match="no pad_token"):
        nli.CrossEncoderNLI(name)


def test_broken_weights_are_said_to_be(checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    name = edited(checkpoint, tmp_path / "model")
    broken = {key: torch.full_like(value, math.nan) for key, value in load_file(f"{name}/model.safetensors").items()}
    save_file(broken, f"{name}/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="not numbers"):
        nli.CrossEncoderNLI(name)([("yes", "no")])


def test_loading_says_nothing(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    classify: Callable[[list[tuple[str, str]]], np.ndarray] = nli.CrossEncoderNLI(str(checkpoint))
    classify([("yes", "no")])
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
