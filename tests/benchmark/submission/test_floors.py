"""Only what GenDiv draws itself is a floor or a ceiling, and references under a model's name are told of."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_submissions import SAMPLES, Tiny, make_submission

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.opened import open_run
from benchmark.records import Flag, Sample
from benchmark.runs import Run
from benchmark.sampling.controls import CONTROLS
from benchmark.submission.floors import MOST_REFERENCES, SaidBefore, check_kind, drawn_again
from benchmark.submission.validate import validate


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("controls")
    options = pipeline.SampleOptions(k=4, limit=5)
    return {name: pipeline.sample(f"control:{name}", "pocket", folder / name, options)[0] for name in CONTROLS}


@pytest.mark.parametrize("name", CONTROLS)
def test_every_control_is_drawn_again_as_it_was_and_a_word_more_is_found(drawn: dict[str, Run], name: str) -> None:
    opened = open_run(drawn[name])
    drawn_again(opened, Path("x"))
    check_kind(opened.manifest, Path("x"))
    sampling = opened.manifest.identity.sampling
    assert sampling is not None
    if name != "constant":
        seeded = opened.manifest.identity.model_copy(update={"sampling": sampling.model_copy(update={"seed": 5})})
        other = opened._replace(manifest=opened.manifest.model_copy(update={"identity": seeded}))
        with pytest.raises(UserError, match=rf"is not what control:{name} says there with seed 5"):
            drawn_again(other, Path("x"))


def test_a_floor_with_another_texts_is_refused_by_the_full_checks(tmp_path: Path) -> None:
    def better(run: Run) -> None:
        """The ceiling's outputs, sold for the floor's."""
        options = pipeline.SampleOptions(k=2, limit=4)
        [fresh] = pipeline.sample("control:fresh-references", "pocket", tmp_path / "fresh", options)
        (run.folder / SAMPLES).write_bytes((fresh.folder / SAMPLES).read_bytes())

    tiny = make_submission(tmp_path, spoil=better)
    validate(tiny.folder, tiny.root, fast=True)
    with pytest.raises(UserError, match=r"samples/gendiv_pocket_id\.jsonl: .* is not what control:random-words says"):
        validate(tiny.folder, tiny.root)


@pytest.mark.parametrize(
    ("kind", "model", "match"),
    [
        ("floor", "control:mine", "is no control, and no floor; there are control:random-words"),
        ("floor", "mine", "is no control, and no floor"),
        ("ceiling", "control:random-words", "is a floor, and no ceiling"),
        ("model", "control:random-words", "is a floor, and no model"),
        ("model", "control:mine", "is no control, and no model"),
    ],
)
def test_only_known_controls_are_floors_and_ceilings_and_they_are_nothing_else(
    tiny: Tiny, kind: str, model: str, match: str
) -> None:
    fields = tiny.fields()
    fields["manifest"] |= {"kind": kind}
    fields["manifest"]["model"]["id"] = model
    tiny.write(fields)
    with pytest.raises(UserError, match=match):
        validate(tiny.folder, tiny.root, fast=True)


def flags(run: Run, change: float = 0.0, kind: str = "model") -> tuple[Flag, ...]:
    """Flags of a control's outputs under a model's name, a share of each prompt's changed."""
    opened = open_run(run)
    said = SaidBefore(opened.manifest.model_copy(update={"kind": kind}))
    for entry in opened.suite.tasks:
        said.at([_word_more(sample) if sample.index < change * 4 else sample for sample in opened.samples(entry.task)])
    return said.flags


def _word_more(sample: Sample) -> Sample:
    return sample.model_copy(update={"text": f"{sample.text} garden"})


@pytest.mark.parametrize("name", ["shuffled-references", "constant", "fresh-references"])
def test_a_model_that_says_the_references_is_flagged_in_every_task(drawn: dict[str, Run], name: str) -> None:
    found = flags(drawn[name])
    assert [flag.code for flag in found] == ["references"] * 3
    assert "100% of the outputs are references of the suite" in found[0].text
    assert flags(drawn[name], change=0.25)
    assert MOST_REFERENCES == 0.5
    assert flags(drawn[name], change=0.5) == ()
    assert flags(drawn[name], kind="floor") == ()


def test_words_at_random_are_no_references(drawn: dict[str, Run]) -> None:
    assert flags(drawn["random-words"]) == ()
