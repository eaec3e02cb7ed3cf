"""The nouns of GenDiv as typed, frozen records.

Everything that is written to disk is one of these. They refuse unknown fields, NaN and infinity, and they never fill
in a default for something that changes a score.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

SCHEMA_VERSION: Literal[1] = 1

Role = Literal["id", "ood", "ood_hard"]
Kind = Literal["model", "floor", "ceiling"]
FinishReason = Literal["stop", "length", "unknown"]
PromptFormat = Literal["base", "chat"]
Truncation = Literal["keep_start", "keep_end"]
Cell = tuple[str, float, int]
"""One place in a task's grid: (doc_id, temperature, sample index)."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""A name that becomes part of a file's: no slash, no wildcard, no hidden file."""


class Record(BaseModel):
    """Base of all records: immutable, closed to unknown fields and to NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Sampling(Record):
    """How the outputs were drawn. No field that a backend knows has a default: theirs differ.

    Parameters
    ----------
    k
        Samples a prompt and temperature.
    temperatures
        Ascending grid; 0 is greedy decoding.
    top_p, top_k
        Nucleus mass in (0, 1] (1 = off) and top-k (0 = off).
    max_new_tokens
        Longest output in tokens, the end-of-sequence token included.
    stop
        Strings that end an output; they are cut off it.
    seed
        Seed of the run; every cell derives its own noise from it.
    max_prompt_tokens
        Longest prompt in the model's own tokens; None = what the model has room for.
    truncation
        What a longer prompt keeps: ``keep_start`` shortens the task's document at its end, so that the lead of an
        article stays; ``keep_end`` cuts the start of the whole prompt, as the code of Kirk et al. does.
    """

    k: Annotated[int, Field(ge=1)]
    temperatures: Annotated[tuple[Annotated[float, Field(ge=0.0)], ...], Field(min_length=1, strict=False)]
    top_p: Annotated[float, Field(gt=0.0, le=1.0)]
    top_k: Annotated[int, Field(ge=0)]
    max_new_tokens: Annotated[int, Field(ge=1)]
    stop: Annotated[tuple[str, ...], Field(strict=False)]
    seed: Annotated[int, Field(ge=0)]
    max_prompt_tokens: Annotated[int, Field(ge=1)] | None = None
    truncation: Truncation = "keep_start"

    @field_validator("temperatures")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("temperatures must ascend and be distinct")
        return value


class Prompt(Record):
    """One question of a task: what the model reads, and what the judge may know."""

    task: Name
    doc_id: Name
    text: str
    """As a base model reads it."""
    references: Annotated[tuple[str, ...], Field(strict=False)]
    """None of them where the data has none: there is then nothing to be preferred to."""
    doc: dict[str, JsonValue]
    """The task's own fields, for judges that read more than text (the pocket oracle)."""
    chat: str | None = None
    """What a chat model is sent as the user's message; None = ``text``."""
    shortens: str | None = None
    """The document within ``text`` and ``chat`` that may be shortened to make room; None = nothing may."""


class Sample(Record):
    """One output of a model: one line of ``samples/<task>.jsonl``."""

    task: Name
    doc_id: Name
    temperature: Annotated[float, Field(ge=0.0)]
    index: Annotated[int, Field(ge=0)]
    text: str
    finish_reason: FinishReason
    n_tokens: Annotated[int, Field(ge=0)] | None
    """Generated tokens, the end-of-sequence token included; ``None`` where the source does not tell."""
    log_prob: Annotated[float, Field(le=0.0)] | None = None
    """Natural log-probability of these tokens, together, under the distribution that they were drawn from:
    temperature, top-p and top-k applied. ``None`` where the source does not tell; where the text is the choice among
    several, which is another distribution; and at temperature 0, where the draw is of one point and so nothing was
    measured. Files of before this field read as ``None``."""

    @model_serializer(mode="wrap")
    def _with_log_prob(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Though logs leave out defaults: a line that is silent is of before the field, and one with null is not.
        return {**handler(self), "log_prob": self.log_prob}

    @property
    def cell(self) -> Cell:
        """The place of this sample in its task's grid."""
        return (self.doc_id, self.temperature, self.index)


class Verdict(Record):
    """One judge's word on one sample: one line of ``verdicts/<task>.<judge>.jsonl``.

    A failed judgement has ``preference`` None and says why in ``error``; it is asked again on the next run and never
    becomes a score. What a failed one was told already, it keeps in ``orders``, and only the rest is asked.
    """

    task: Name
    doc_id: Name
    temperature: Annotated[float, Field(ge=0.0)]
    index: Annotated[int, Field(ge=0)]
    key: Annotated[str, Field(min_length=1)]
    """SHA-256 prefix over the judge's whole configuration, the prompt, the sample and the reference."""
    preference: Share | None
    """1 = the sample is preferred to the reference, 0 = the reference is, 1/2 = a tie; the mean over the orders."""
    orders: Annotated[tuple[Share | None, ...], Field(strict=False)] = ()
    """Preference for the sample when it is shown first, and when the reference is; None = not asked, or not answered.
    Empty where a judge sees no order."""
    score: float | None = None
    reference_score: float | None = None
    """Absolute scores, from judges that have them (oracle, reward model)."""
    length: Annotated[int, Field(ge=0)]
    reference_length: Annotated[int, Field(ge=0)]
    """Characters of the sample and of the reference, for length control."""
    raw: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Every reply of the judge as it came, those that could not be read as well, in order of asking."""
    calls: Annotated[int, Field(ge=0)] = 0
    """Replies that were paid for; 0 for a tie of identical texts and for a copy of another cell's verdict."""
    prompt_tokens: Annotated[int, Field(ge=0)] = 0
    completion_tokens: Annotated[int, Field(ge=0)] = 0
    """What the judge's server counted, over these calls."""
    uncounted: Annotated[int, Field(ge=0)] = 0
    """Of these calls, those whose tokens the server did not tell."""
    error: str | None = None

    @property
    def cell(self) -> Cell:
        """The cell of the sample this verdict is about."""
        return (self.doc_id, self.temperature, self.index)


class TaskIdentity(Record):
    """Which prompts a task asked, exactly."""

    task: FileName
    role: Role
    version: Name
    n_prompts: Annotated[int, Field(ge=1)]
    prompts_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    data: str | None = None
    """Where the prompts came from: a hub data set at a revision, or the stand-in for it; None = made by the task."""


class Identity(Record):
    """What must be equal for two rows to be compared (the sampling seed is the model's, see ``ModelIdentity``)."""

    suite: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*@v[0-9]+$")]
    tasks: Annotated[tuple[TaskIdentity, ...], Field(min_length=1, strict=False)]
    sampling: Sampling | None
    """None for outputs made elsewhere, whose decoding is not known."""
    judge: FileName | None
    """None where the suite has no judge: its runs have no win rate."""
    judge_sha256: str | None
    encoder: str


class ModelIdentity(Record):
    """What must be equal as well to resume or merge one run."""

    id: Name
    revision: str | None
    weights_sha256: str | None
    dtype: str | None
    chat_template_sha256: str | None
    seed: int | None
    prompt_format: PromptFormat | None = None
    """Whether prompts were sent in the base-model format or as chats; None = not known."""
    arguments: dict[str, JsonValue] = {}
    """What else the backend was given, secrets and folders left out: an adapter or a quantisation is another model."""


class ModelCard(Record):
    """What the submitter declares about a model."""

    method: str | None = None
    base_model: str | None = None
    trained_on: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    """Tasks or data sets trained on; None = not declared."""
    reward_model: Name | None = None
    """What it was optimised for: the weights' hash as GenDiv gives it, or a hub id, with ``@<commit>`` where known; a
    judge that is this one is flagged. None = not declared."""
    family: Name | None = None
    """What checkpoints of several training seeds have in common; two-way intervals are over a family."""
    training_seed: Annotated[int, Field(ge=0)] | None = None
    decoding: Name | None = None
    """A policy above plain sampling, such as ``best-of-16``: it has a name of its own."""
    licence: Name | None = None
    contact: Name | None = None
    note: str | None = None


class Manifest(Record):
    """``run.json``: what a run is, and how it came about."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Name
    """The row's name on the board."""
    kind: Kind
    identity: Identity
    model: ModelIdentity
    card: ModelCard = ModelCard()
    shard: Annotated[tuple[int, int], Field(strict=False)] | None = None
    """(i, n): the run holds the i-th of n shards of its prompts, to be merged with the others; None = all of them."""
    record: dict[str, JsonValue] = {}
    """Commit, packages, hardware, wall time: shown, never compared."""


class Estimate(Record):
    """One number with its interval; (metric, role, temperature) occurs once in a run's scores."""

    metric: Name
    task: str
    role: Literal["id", "ood", "ood_hard", "gap"]
    temperature: Annotated[float, Field(ge=0.0)]
    value: float
    low: float
    high: float
    method: Name
    """Which of ``intervals`` is printed as (low, high)."""
    n: Annotated[int, Field(ge=1)]
    """Prompts the estimate rests on."""
    intervals: dict[str, Annotated[tuple[float, float], Field(strict=False)]]

    @model_validator(mode="after")
    def _in_order(self) -> Estimate:
        if self.low > self.high:
            raise ValueError(f"{self.metric}: low {self.low} is above high {self.high}")
        return self


class Flag(Record):
    """A reason why a row is shown but not ranked."""

    code: Name
    text: str


class Scores(Record):
    """``scores.json``: everything the board needs of a run, derived from its samples and verdicts."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Name
    kind: Kind
    identity: Identity
    model: ModelIdentity
    card: ModelCard
    inputs_sha256: dict[str, str]
    """File of the run → SHA-256 it had when it was scored."""
    estimates: Annotated[tuple[Estimate, ...], Field(strict=False)]
    doc_ids: dict[str, Annotated[tuple[str, ...], Field(strict=False)]]
    """Task → its prompts, in the order of every per-prompt list."""
    per_prompt: dict[str, dict[str, dict[str, Annotated[tuple[float | None, ...], Field(strict=False)]]]]
    """Task → temperature → metric → one value a prompt, kept to 1e-6: a board built of them is the same anywhere.

    Their mean is the estimate and their covariance over n its variance: the plain values for a mean over prompts,
    jackknife pseudo-values for a statistic of the whole set. Temperatures are written as ``str(float)``.
    """
    flags: Annotated[tuple[Flag, ...], Field(strict=False)] = ()
    absent: dict[str, str] = {}
    """Part of a metric's name (``per_input``, say) → why this run has no such metric."""
    notes: dict[str, JsonValue] = {}
    """Facts to show beside the numbers, such as the share of texts over the encoder's limit."""
    record: dict[str, JsonValue] = {}
    """The manifest's record: shown, never compared."""

    @model_validator(mode="after")
    def _estimates_are_the_means(self) -> Scores:
        for estimate in self.estimates:
            if estimate.role == "gap":
                continue
            values = self.per_prompt.get(estimate.task, {}).get(str(estimate.temperature), {}).get(estimate.metric, ())
            present = [value for value in values if value is not None]
            if len(present) != estimate.n or abs(sum(present) / len(present) - estimate.value) > 2e-6:
                raise ValueError(f"{estimate.metric} of {estimate.task} is not the mean of its per-prompt values")
        return self


def canonical_json(value: Any) -> str:
    """The one spelling of a JSON value that hashes are taken of: sorted keys, no spaces, UTF-8 kept."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_of(value: Any) -> str:
    """Hexadecimal SHA-256 of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def prompts_sha256(prompts: list[Prompt]) -> str:
    """Hash of what a task asks: ids, texts and references, and the chat messages where they differ, in order."""
    return sha256_of(
        [
            [prompt.doc_id, prompt.text, list(prompt.references), *([] if prompt.chat is None else [prompt.chat])]
            for prompt in prompts
        ]
    )
