"""What a verdict says follows from the stored replies: the preference, and that of each order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from judge_server import chat_config

from benchmark.errors import UserError
from benchmark.judging.audit import check_preferences
from benchmark.judging.judge import Pair, verdict_key
from benchmark.records import Prompt, Sample, Verdict

CONFIG = chat_config(verdict="reply", max_tokens=9)
LOG = Path("t.log")


def asked(text="a text", reference="a reference"):
    prompt = Prompt(task="t", doc_id="0", text="?", references=(reference,), doc={})
    sample = Sample(task="t", doc_id="0", temperature=1.0, index=0, text=text, finish_reason="stop", n_tokens=1)
    return Pair(prompt, sample, reference, verdict_key(CONFIG.sha256, prompt, text, reference))


def reply(order, label):
    return json.dumps({"order": order, "finish": "stop", "content": label, "model": "m"})


def verdict(pair, preference, orders, raw, **fields):
    return Verdict(
        task="t", doc_id="0", temperature=1.0, index=0, key=pair.key, preference=preference, orders=orders, raw=raw,
        length=len(pair.sample.text), reference_length=len(pair.reference), **fields,
    )  # fmt: skip


def check(pair, *log):
    check_preferences(CONFIG, {pair.sample.cell: pair}, list(log), where=LOG)


BOTH = (reply(0, "A"), reply(1, "A"))
"""The first text wins, whichever it is: once the sample, once the reference."""


def test_what_the_replies_give_passes():
    pair = asked()
    check(pair, verdict(pair, 0.5, (1.0, 0.0), BOTH))
    check(pair, verdict(pair, 1.0, (1.0, None), BOTH[:1]))
    check(pair, verdict(pair, 0.5, (1.0, 0.0), ("junk", *BOTH)))
    same = asked("the same", "the same")
    check(same, verdict(same, 0.5, (), ()))


def test_an_order_that_an_earlier_attempt_was_answered_in_counts():
    pair = asked()
    failed = verdict(pair, None, (1.0, None), BOTH[:1], error="no answer")
    check(pair, failed)
    check(pair, failed, verdict(pair, 0.5, (1.0, 0.0), BOTH[1:]))
    check(pair, verdict(pair, None, (None, None), BOTH[:1], error="not told"))


@pytest.mark.parametrize(
    ("preference", "orders"),
    [
        (0.5, (0.0, 1.0)),  # exchanged: the mean is right
        (0.5, (0.5, 0.5)),
        (0.5, ()),
        (0.5, (1.0, None)),
        (None, (0.0, None)),
        (None, (1.0, 0.5)),
    ],
)
def test_orders_that_no_reply_gives_are_refused(preference, orders):
    pair = asked()
    found = verdict(pair, preference, orders, BOTH, error=None if preference is not None else "failed")
    with pytest.raises(UserError, match=r"says orders .*, and what the judge replied gives .*; was the file edited"):
        check(pair, found)


def test_a_tie_of_equal_texts_was_asked_in_no_order():
    same = asked("the same", "the same")
    with pytest.raises(UserError, match="says orders"):
        check(same, verdict(same, 0.5, (1.0, 0.0), BOTH))


def test_an_order_that_was_never_answered_is_refused_in_a_failed_verdict_as_well():
    pair = asked()
    with pytest.raises(UserError, match="says orders"):
        check(pair, verdict(pair, None, (None, 1.0), BOTH[:1], error="failed"))
