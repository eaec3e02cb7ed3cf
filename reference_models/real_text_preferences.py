"""Preference pairs on real text: two halves that share nothing, one for the policy's reward model, one for the judge's.

From people's choices: PandaLM's test set (the answer that most of three annotators prefer) and hh-rlhf (the last turn
of a dialogue). Neither holds summaries, so there is a kind of our own, made of training pairs alone: a reference is
better than another text's reference. `reference_models.real_text_ladder` adds a second one, when there is a model: a
reference is better than the model's own sample.

Whatever shares 13 words in a row with an evaluated prompt or its reference is left out, and counted. Of PandaLM's 170
instructions 166 are AlpacaEval's, and nothing of it is left. `gendiv judge-accuracy` measures judges on PandaLM, which
is no suite's task; a judge that was trained on what another release leaves of it must not be measured there.

    gendiv data export gendiv_tldr --out tldr.jsonl
    gendiv data export gendiv_alpaca_farm --out alpaca.jsonl
    python -m reference_models.real_text_preferences --people DIR --pairs tldr.jsonl alpaca.jsonl --out preferences
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.contamination import WORDS, Evaluated, words
from benchmark.errors import UserError
from benchmark.runs import write_atomically
from reference_models.data import read_pairs
from reference_models.real_text import LONGEST, evaluated_by_the_suites, parts

HALVES = ("policy", "judge")
PANDALM, DIALOGUES = "pandalm/testset-v1.jsonl", "hh_rlhf/harmless-base_test.jsonl.gz"
TURN = "\n\nAssistant:"
OTHERS = 3
"""Other texts' references that a reference is compared with, at most."""


class Pair(NamedTuple):
    """One preference."""

    kind: str
    """``pandalm``, ``hh-rlhf`` or ``other-reference``."""
    about: str
    """What decides the half, and is the same for all that belong together: an instruction, the first turn, a post."""
    prompt: str
    chosen: str
    rejected: str

    @property
    def own(self) -> list[str]:
        """List what of it is no template: two pairs that share words of these are near-copies.

        A short answer, such as "I don't know.", says nothing of where it comes from.
        """
        return [self.about, *(answer for answer in (self.chosen, self.rejected) if len(words(answer)) >= WORDS)]


def prepare(people: Path, pairs: Sequence[Path], out: Path, *, seed: int = 1) -> dict[str, int]:
    """Write ``{policy,judge}-pairs.jsonl`` and ``{policy,judge}-references.jsonl``.

    Parameters
    ----------
    people
        Folder with ``pandalm/testset-v1.jsonl`` and ``hh_rlhf/harmless-base_test.jsonl.gz``.
    pairs
        JSONL of `gendiv data export`, a file a task: training prompts with their references.
    out
        Folder; made if absent.
    seed
        Of the halves and of which reference is compared with which.

    Returns
    -------
    dict[str, int]
        How many were kept of each kind and half, and left out, and why.

    Raises
    ------
    UserError
        If a file is missing or not what it should be, or a half is empty.
    """
    evaluated = Evaluated(evaluated_by_the_suites())
    counts: Counter[str] = Counter()
    references = {half: [] for half in HALVES}  # type: dict[str, list[tuple[str, str, int]]]
    for number, path in enumerate(pairs):
        for prompt, completion in dict(read_pairs(path)).items():
            if _is_fit([prompt, completion], [*parts(prompt), completion], evaluated, counts, "references"):
                references[half_of(prompt, seed)].append((prompt, completion, number))
    found: dict[str, list[Pair]] = {half: [] for half in HALVES}
    for pair in (*_pandalm(people / PANDALM, counts), *_dialogues(people / DIALOGUES, counts)):
        texts = [pair.prompt, pair.chosen, pair.rejected]
        if _is_fit(texts, [*texts, *parts(pair.prompt), pair.about], evaluated, counts, pair.kind):
            found[half_of(pair.about, seed)].append(pair)
    for half in HALVES:
        found[half] += _other_references(references[half], seed)
    kept = _without_near_copies(found, counts)
    for half in HALVES:
        if not kept[half]:
            raise UserError(f"no pair is left for the {half}'s half", where=people)
        counts.update(f"{half}: {pair.kind}" for pair in kept[half])
        mine = {pair.prompt for pair in kept[half] if pair.kind == "other-reference"}
        write_atomically(out / f"{half}-pairs.jsonl", _jsonl(in_order(map(_row, kept[half]), seed)))
        rows = [{"prompt": p, "completion": c, "task": str(n)} for p, c, n in references[half] if p in mine]
        write_atomically(out / f"{half}-references.jsonl", _jsonl(in_order(rows, seed)))
    return dict(sorted(counts.items()))


def half_of(about: str, seed: int) -> str:
    """Say which half a pair belongs to, by a hash of what it is about; white space and case change nothing."""
    return HALVES[_hash(" ".join(about.lower().split()), seed) % 2]


def in_order(rows: Iterable[dict[str, str]], seed: int) -> list[dict[str, str]]:
    """Shuffle rows by a hash of their prompts, so that those of one prompt stand together."""
    return sorted(rows, key=lambda row: (_hash(row["prompt"], seed + 1), row["prompt"]))


def _hash(text: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{text}".encode()).digest()[:8])


def _is_fit(
    texts: Sequence[str], compared: Sequence[str], evaluated: Evaluated, counts: Counter[str], kind: str
) -> bool:
    if any(map(evaluated.overlap, compared)):
        counts[f"{kind}: overlaps with an evaluated text"] += 1
    elif len(texts[0].split()) + max(len(text.split()) for text in texts[1:]) > LONGEST:
        counts[f"{kind}: too long"] += 1
    else:
        return True
    return False


def _pandalm(path: Path, counts: Counter[str]) -> Iterator[Pair]:
    from tasks.instructions.prompts import alpaca

    for where, row in _rows(path):
        answered = [row.get(f"response{number}") for number in (1, 2)]
        if not all(isinstance(answer, str) and answer.strip() for answer in answered):
            counts["pandalm: an answer is empty"] += 1
            continue
        texts = [_text(row, name, where) for name in ("instruction", "input", "response1", "response2")]
        votes = Counter(row.get(f"annotator{number}") for number in (1, 2, 3))
        preferred = next((answer for answer in (1, 2) if votes[answer] >= 2), None)
        instruction, given, *answers = texts
        if preferred is None or answers[0].strip() == answers[1].strip() or not instruction.strip():
            counts["pandalm: no answer is preferred"] += 1
            continue
        chosen, rejected = answers if preferred == 1 else answers[::-1]
        prompt = alpaca({"instruction": instruction, "input": given})
        yield Pair("pandalm", f"{instruction} {given}".strip(), prompt, chosen.strip(), rejected.strip())


def _dialogues(path: Path, counts: Counter[str]) -> Iterator[Pair]:
    for where, row in _rows(path):
        chosen, rejected = (_text(row, name, where).rpartition(TURN) for name in ("chosen", "rejected"))
        if chosen[0] != rejected[0] or not chosen[1] or chosen[2].strip() == rejected[2].strip():
            counts["hh-rlhf: more than the last answer differs, or nothing does"] += 1
        elif not chosen[2].strip() or not rejected[2].strip():
            counts["hh-rlhf: an answer is empty"] += 1
        else:
            before = chosen[0].strip()
            answers = (f" {answer.strip()}" for answer in (chosen[2], rejected[2]))
            yield Pair("hh-rlhf", before.partition(TURN)[0], f"{before}{TURN}", *answers)


def _other_references(references: Sequence[tuple[str, str, int]], seed: int) -> Iterator[Pair]:
    """Compare the references of each few texts of a task that stand together in the files with each other.

    Not with just any text's: a reward model that has read a held-out reference as the worse one of a training pair, and
    never as the better one, remembers that, and its held-out accuracy comes out below a half.
    """
    for task in sorted({number for *_, number in references}):
        mine = [row for row in references if row[2] == task]
        mine.sort(key=lambda row: (_hash(row[0], seed + 1), row[0]))
        groups = -(-len(mine) // (OTHERS + 1))
        for number in range(groups):
            together = mine[number * len(mine) // groups : (number + 1) * len(mine) // groups]
            for prompt, reference, _ in together:
                for _, other, _ in together:
                    if other.strip() != reference.strip():
                        yield Pair("other-reference", prompt, prompt, reference, other)


def _without_near_copies(found: dict[str, list[Pair]], counts: Counter[str]) -> dict[str, list[Pair]]:
    """Leave out of the judge's half what shares 13 words in a row with the policy's: dialogues that begin alike, say.

    Pairs of our own are about texts that stand in training data once; their templates would be found in each other.
    """
    seen = Evaluated(text for pair in found["policy"] if pair.kind != "other-reference" for text in pair.own)
    kept = []
    for pair in found["judge"]:
        if pair.kind != "other-reference" and any(map(seen.overlap, pair.own)):
            counts[f"{pair.kind}: in both halves"] += 1
        else:
            kept.append(pair)
    prompts = {pair.prompt for pair in found["policy"]}
    return {"policy": found["policy"], "judge": [pair for pair in kept if pair.prompt not in prompts]}


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                where = f"{path}:{number}"
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise UserError(f"not JSON: {error}", where=where) from None
                if not isinstance(row, dict):
                    raise UserError("a line is a mapping of fields", where=where)
                yield where, row
    except FileNotFoundError:
        raise UserError("no such file", where=path) from None


def _text(row: dict[str, Any], name: str, where: str) -> str:
    if not isinstance(row.get(name), str):
        raise UserError(f"needs a text under {name!r}", where=where)
    return str(row[name])


def _row(pair: Pair) -> dict[str, str]:
    return {"kind": pair.kind, "prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}


def _jsonl(rows: Iterable[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    """Run as a module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    try:
        counts = prepare(arguments.people, arguments.pairs, arguments.out, seed=arguments.seed)
    except UserError as error:
        sys.exit(f"error: {error}")
    for what, count in counts.items():
        print(f"{what}: {count}")


if __name__ == "__main__":
    main()
