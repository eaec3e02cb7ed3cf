"""What a judge is: a YAML file under ``tasks/<suite>/judges/``, or one of the user's own.

Everything that can change a judge's word is in its configuration, and the hash of it in the key of every verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from benchmark.entry_points import Found, find
from benchmark.errors import UserError
from benchmark.records import FileName, Name, Record, Sample, sha256_of
from benchmark.runs import first_problem
from benchmark.suites import tasks_folder

Orders = Literal["both", "one"]


class OneSample(Record):
    """The one sample of each prompt that a judge is shown."""

    temperature: Annotated[float, Field(ge=0.0)]
    index: Annotated[int, Field(ge=0)]


class Price(Record):
    """US dollars for a million tokens."""

    input: Annotated[float, Field(ge=0.0)]
    output: Annotated[float, Field(ge=0.0)]
    as_of: str
    """When and where the price was read: prices change, and verdicts do not."""

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Price of so many tokens, in dollars."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


class _Judge(Record):
    """What all judges have.

    Parameters
    ----------
    judge
        Its name; part of the names of its logs.
    description
        One line for ``gendiv list judges``.
    version
        Raised with every change of the file.
    samples
        Which samples it judges: free judges read all, paid ones one of each prompt.
    """

    judge: FileName
    description: str
    version: int
    samples: Literal["all"] | OneSample

    @property
    def sha256(self) -> str:
        """Hash of everything that can change a verdict: all but the description and the price."""
        return sha256_of(self.model_dump(exclude={"description", "price"}))

    @property
    def workload(self) -> str:
        """What it judges of each prompt, in words."""
        if self.samples == "all":
            return "all samples"
        assert isinstance(self.samples, OneSample)
        return f"sample {self.samples.index} at T = {self.samples.temperature:g}"

    def selected(self, samples: Iterable[Sample]) -> list[Sample]:
        """Those of the samples that this judge judges, in their order."""
        if (one := self.samples) == "all":
            return list(samples)
        assert isinstance(one, OneSample)
        return [sample for sample in samples if (sample.temperature, sample.index) == (one.temperature, one.index)]


class OracleConfig(_Judge):
    """The exact oracle of a generated suite."""

    kind: Literal["oracle"]
    function: str
    """Dotted name of (doc, text) → score, within our own ``tasks``."""


class RewardModelConfig(_Judge):
    """A sequence classifier with one label."""

    kind: Literal["reward-model"]
    model: Name | None
    """Checkpoint folder or hub id; None = the user names it (``--model``)."""
    revision: Name | None = None
    weights_sha256: str | None = None
    """Filled in when the model is loaded: a folder's name says nothing of what is in it. A file that names these and no
    model is of one judge, wherever its checkpoint lies."""
    input: Literal["text", "chat"]
    """What is put before an answer: the prompt as a base model reads it, or the conversation in its chat template."""
    preference: Literal["winner", "bradley_terry"]
    """``winner``: 1, 1/2 or 0, whichever scores higher; ``bradley_terry``: the sigmoid of the difference of scores
    before normalisation."""

    @property
    def is_pinned(self) -> bool:
        """Whether its weights are all that it is known by."""
        return self.model is None and self.weights_sha256 is not None


class ChatConfig(_Judge):
    """A chat model behind an OpenAI-compatible server.

    Parameters
    ----------
    model
        Served name; None = the user names it (``--model``).
    base_url
        The server; None = ``OPENAI_BASE_URL`` of the environment, else OpenAI's own.
    system, user
        The messages; ``user`` is a Jinja template over ``prompt`` (the instruction), ``document`` (what is to be
        summarised), ``first``, ``second`` (the two answers), ``boundary`` (letters that stand in none of the texts, to
        mark where each begins and ends) and the task's own words.
    tasks
        Task → words of its own for the template; the judge is for these tasks alone.
    labels
        What the judge answers for the first and for the second text.
    verdict
        ``logprobs``: a graded preference from the probabilities of the labels in a one-token reply; ``reply``: the
        label that the reply's last line names, for servers without log-probabilities and for models that reason first.
    temperature, max_tokens
        As sent.
    orders
        ``both`` orders of presentation, averaged, or ``one`` drawn by the prompt's hash, the same for every model.
    price
        None = free, or not known.
    """

    kind: Literal["chat"]
    model: Name | None
    base_url: str | None = None
    system: str
    user: str
    tasks: dict[str, dict[str, str]]
    labels: Annotated[tuple[Name, Name], Field(strict=False)] = ("A", "B")
    verdict: Literal["logprobs", "reply"]
    temperature: Annotated[float, Field(ge=0.0)]
    max_tokens: Annotated[int, Field(ge=1)]
    orders: Orders = "both"
    price: Price | None = None

    @property
    def workload(self) -> str:
        """What it judges of each prompt, and in how many calls."""
        calls = 2 if self.orders == "both" else 1
        return f"{super().workload}, {calls} call{'s' if calls > 1 else ''} each"

    @model_validator(mode="after")
    def _labels_differ(self) -> ChatConfig:
        if self.labels[0].strip().casefold() == self.labels[1].strip().casefold():
            raise ValueError("the two labels are the same")
        return self


class FunctionConfig(_Judge):
    """A function of another package, found by its entry point; see `benchmark.judging.function`."""

    kind: Literal["function"]
    function: FileName
    """Name of the entry point in the group ``gendiv.judges``."""
    package: str
    code_sha256: str
    """What the function is: another version of its file is another judge."""


JudgeConfig = OracleConfig | RewardModelConfig | ChatConfig | FunctionConfig
_CONFIG: TypeAdapter[JudgeConfig] = TypeAdapter(Annotated[JudgeConfig, Field(discriminator="kind")])


def load_judge_configs() -> dict[str, JudgeConfig]:
    """All judges that come with GenDiv, by name."""
    return {config.judge: config for config in map(read_judge, sorted(tasks_folder().glob("*/judges/*.yaml")))}


def own_judges() -> dict[str, FunctionConfig]:
    """Judges of other packages that are installed, by name: functions ``(prompts, outputs, references) → preferences``.

    Raises
    ------
    UserError
        See `benchmark.entry_points.find`.
    """
    return {name: _function(found) for name, found in find("gendiv.judges").items()}


def _function(found: Found) -> FunctionConfig:
    lines = (found.function.__doc__ or "").strip().splitlines() or [f"a judge of {found.package}"]
    return FunctionConfig(
        kind="function",
        judge=found.name,
        description=lines[0].rstrip("."),
        version=1,
        samples="all",
        function=found.name,
        package=found.package,
        code_sha256=found.code_sha256,
    )


def read_judge(path: Path) -> JudgeConfig:
    """Read one judge's file; what it does not say is taken from the file beside it that it names as ``include``.

    Raises
    ------
    UserError
        Names the file, and the field that is wrong.
    """
    fields = _fields(path)
    if isinstance(other := fields.pop("include", None), str):
        fields = _fields(path.parent / other) | fields
    try:
        return _CONFIG.validate_python(fields, strict=False)
    except ValidationError as error:
        raise UserError(f"not a valid judge: {first_problem(error)}", where=path) from None


def _fields(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"not a judge's YAML: {' '.join(str(error).split())}", where=path) from None
    if not isinstance(found, dict):
        raise UserError("not a judge's YAML: no fields", where=path)
    return found


def read_kept(path: Path) -> JudgeConfig | None:
    """Read a run's own copy of a judge's configuration; None where that judge has not judged it."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return _CONFIG.validate_json(data, strict=False)
    except ValidationError as error:
        raise UserError(f"not a valid judge: {first_problem(error)}", where=path) from None


def find_judge(name: str, *, model: str | None = None, orders: Orders | None = None) -> JudgeConfig:
    """Find a judge by name, or read a ``.yaml`` file, and change what the user asks for.

    A judge with another model or another order policy is another judge and has a name of its own: the log of its
    verdicts is another file.

    Parameters
    ----------
    name
        A judge's name, or the path of a file that ends in ``.yaml``.
    model
        Instead of the model that the file names. Of a judge that is known by its weights it only says where they lie.
    orders
        Instead of the file's order policy.

    Raises
    ------
    UserError
        If there is none of that name (the message lists those there are), the judge has nothing of that kind to
        change, or its file names no model and neither does the user.
    """
    if name.endswith((".yaml", ".yml")):
        config = read_judge(Path(name))
    else:
        configs: dict[str, JudgeConfig] = {**load_judge_configs()}
        if name not in configs:
            configs |= own_judges()
        if name not in configs:
            raise UserError(f"no judge {name!r}; there are: {', '.join(configs)}, or give a .yaml file")
        config = configs[name]
    changes: dict[str, Any] = {}
    if isinstance(config, RewardModelConfig) and config.is_pinned:
        pass
    elif model is not None:
        if isinstance(config, OracleConfig | FunctionConfig):
            raise UserError(f"judge {config.judge} has no model; leave --model out")
        changes["model"] = model
        changes["judge"] = f"{config.judge}.{_as_file_name(model)}"
        if isinstance(config, ChatConfig):
            changes["price"] = None  # the file's is of another model
    elif not isinstance(config, OracleConfig | FunctionConfig) and config.model is None:
        raise UserError(f"judge {config.judge} names no model; give --model")
    if orders is not None:
        if not isinstance(config, ChatConfig):
            raise UserError(f"judge {config.judge} sees no order; leave --orders out")
        if orders != config.orders:
            changes["orders"] = orders
            changes["judge"] = f"{changes.get('judge', config.judge)}.{orders}-order{'s' if orders == 'both' else ''}"
    return type(config).model_validate(config.model_dump() | changes) if changes else config


def _as_file_name(model: str) -> str:
    """The last part of a path or hub id, fit for a file's name."""
    last = Path(model).resolve().name if Path(model).is_dir() else model.rstrip("/").rpartition("/")[2]
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "_" for letter in last)[
        :60
    ]
