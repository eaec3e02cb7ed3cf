"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A checkpoint folder, a hub id, backend:args such as vllm:… or local-completions:…, or control:NAME.",
    ),
]
SuiteNames = Annotated[
    list[str], typer.Option("--suite", "-s", help="A suite, such as pocket or pocket@v1; several load the model once.")
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
K = Annotated[int | None, typer.Option("--k", min=1, help="Samples a prompt and temperature.")]
Temperatures = Annotated[str | None, typer.Option(help='Grid, such as "0.3,0.7,1.0,1.3".')]
Limit = Annotated[int | None, typer.Option(min=2, help="Only the first so many prompts of each task: a quick look.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of the run.")]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Outputs drawn together; default: what memory has room for.")
]
Device = Annotated[str | None, typer.Option(help="Device of a Hugging Face model, such as cpu or cuda:0.")]
Dtype = Annotated[str | None, typer.Option(help="Dtype of a Hugging Face model; default: the checkpoint's.")]
Chat = Annotated[
    bool | None, typer.Option("--chat/--no-chat", help="Use the chat template; default: where there is one.")
]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads. More is often slower for small models.")]
Method = Annotated[str | None, typer.Option(help="How the model was trained, such as sft or ppo.")]
TrainedOn = Annotated[
    list[str] | None, typer.Option(help="A task or data set it was trained on; may be given several times.")
]
RowName = Annotated[str | None, typer.Option("--name", help="The row's name on the board.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(metavar="DIR", envvar="GENDIV_DATA", help="Local data instead of the hub; `gendiv data check`."),
]
Backend = Annotated[
    Literal["auto", "hf", "vllm"],
    typer.Option(help="What runs a checkpoint; auto: vllm from 1 B parameters, where it and a GPU are there."),
]
MaxPromptTokens = Annotated[int | None, typer.Option(min=1, help="Longest prompt; default: the suite's.")]
Truncation = Annotated[
    Literal["keep_start", "keep_end"] | None,
    typer.Option(help="What of a longer prompt stays: the lead of its document, or, as published, the end of it all."),
]
ShardOption = Annotated[
    str | None, typer.Option("--shard", metavar="I/N", help="Only the I-th of N parts; `gendiv merge` joins them.")
]
