"""What is assumed of the paper's data where it is not here: how much there is, and how long its texts are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reference_models.architectures import PaperModel
from reference_models.memory import Lengths
from reference_models.plan import Means

BYTES_A_TOKEN = 4.0
"""Of English text, about."""


@dataclass(frozen=True)
class Texts:
    """What is assumed of an evaluated task: its prompts, and the mean UTF-8 bytes of a document and of a reference."""

    prompts: int
    document: int
    reference: int


@dataclass(frozen=True)
class Experiment:
    """What is assumed of a suite's data, and which task is trained on."""

    task: str
    """Whose training data is exported."""
    means: Means
    """Tokens of its pairs."""
    answers: float
    """Different answers a prompt among its preferences."""
    longest: Lengths
    """Tokens of its longest prompt and completion."""
    evaluated: Mapping[str, Texts]
    around: int = 0
    """Bytes that the template puts around a document."""

    def recipe(self, model: PaperModel) -> str:
        """Name the folder of recipes for a base model."""
        short = model.name.rpartition("/")[2]
        return f"tldr-{short}" if self.task == "gendiv_tldr" else f"alpaca-farm-{short}"

    def prompt_tokens(self, task: str) -> float:
        """Mean tokens of an evaluated task's prompts."""
        return (self.evaluated[task].document + self.around) / BYTES_A_TOKEN

    def assumptions(self) -> list[str]:
        """Say what is assumed, in sentences."""
        texts = ", ".join(
            f"{task} {t.prompts} prompts of {t.document + self.around:,} bytes with references of {t.reference}"
            for task, t in self.evaluated.items()
        )
        return [
            f"Assumed of {self.task}: {self.means.prompt:.0f} tokens a prompt, {self.means.response:.0f} a completion, "
            f"{self.answers:g} answers a prompt of preferences; `gendiv train … --dry-run` counts a file's own.",
            f"Assumed of what is evaluated: {texts}; {BYTES_A_TOKEN:g} bytes to a token.",
        ]


EXPERIMENTS = {
    # Posts of up to about 512 tokens with summaries of 24 to 48, by the data set's own filter; means are assumed.
    # Articles of about 780 words and highlights of about 50 are what is commonly stated of CNN/DailyMail.
    "summarisation": Experiment(
        task="gendiv_tldr",
        means=Means(prompt=370, response=38),
        answers=5,
        longest=Lengths(540, 64),
        evaluated={"gendiv_tldr": Texts(500, 1480, 150), "gendiv_cnn_dailymail": Texts(500, 4300, 300)},
    ),
    # Bytes are means over AlpacaEval's prompts and text-davinci-003's answers, and over sequential instructions.
    "instructions": Experiment(
        task="gendiv_alpaca_farm",
        means=Means(prompt=90, response=66),
        answers=2,
        longest=Lengths(400, 300),
        evaluated={
            "gendiv_alpaca_farm": Texts(500, 165, 308),
            "gendiv_alpaca_eval": Texts(805, 165, 308),
            "gendiv_sequential_instructions": Texts(500, 464, 308),
        },
        around=200,
    ),
}
