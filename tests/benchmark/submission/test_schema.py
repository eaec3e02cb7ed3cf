import json
from pathlib import Path

import jsonschema
import pytest
from tiny_submissions import Tiny

from benchmark.submission.schema import PLACE, schema, schema_json, write_schema

COMMITTED = Path(__file__).parents[3] / "submissions" / PLACE


def test_the_published_schema_is_what_the_code_gives() -> None:
    mend = "run `python -c 'from benchmark.submission.schema import *; write_schema(Path(\"submissions\"))'`"
    assert COMMITTED.read_text(encoding="utf-8") == schema_json(), mend


def test_writing_it_again_gives_the_same_bytes(tmp_path: Path) -> None:
    assert write_schema(tmp_path).read_bytes() == write_schema(tmp_path).read_bytes() == COMMITTED.read_bytes()


def test_it_is_a_schema_and_the_honest_submission_is_of_it(honest: Tiny) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.Draft202012Validator(schema()).validate(honest.fields())


@pytest.mark.parametrize(
    ("place", "value"),
    [("model", "../x"), ("version", 2), ("more", 1), ("files", []), ("claimed_judge", "../x"), ("claims", None)],
)
def test_it_refuses_what_the_code_refuses(honest: Tiny, place: str, value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate(json.loads(json.dumps(honest.fields() | {place: value})))


def test_every_field_of_a_submission_is_explained() -> None:
    described = {name: part.get("description") for name, part in schema()["properties"].items()}
    assert all(described.values()), described
