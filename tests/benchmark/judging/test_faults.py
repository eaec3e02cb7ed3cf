"""A server that fails in every way: every verdict that can be had is had, none twice, none made up."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from judge_server import HOSTILE, TRANSPORT, Answer, JudgeServer, as_json, chat_config, chat_pairs, completion, truth

from benchmark.errors import UserError
from benchmark.judging.chat import ChatJudge, Pace
from benchmark.judging.config import Price
from benchmark.judging.judge import judge_pairs
from benchmark.judging.replies import reparse
from benchmark.judging.report import report
from benchmark.records import Verdict
from benchmark.runs import read_jsonl

QUICK = Pace(first_pause=0.001, longest_pause=0.02, longest_asked=0.05, timeout=2.0, batch=16, batch_seconds=0.02)
SHARES = {kind: 0.3 / len(TRANSPORT) for kind in TRANSPORT} | {kind: 0.2 / len(HOSTILE) for kind in HOSTILE}
SHARES |= {"hang": 0.008, "429": 0.03, "cut": 0.03}
LOW_CREDIT = {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": None}}


def judge(server, pairs, log, config=None, *, pace=QUICK, **options):
    """Judge; returns the verdicts that did not fail, by cell."""
    config = chat_config() if config is None else config
    try:
        judge_pairs(ChatJudge(config, base_url=server.url, pace=pace, **options), pairs, log)
    finally:
        lines = read_jsonl(log, Verdict, mend="")
    return {line.cell: line for line in lines if line.preference is not None}


def question(pair, order):
    texts = [pair.sample.text, pair.reference]
    return json.dumps([texts[order], texts[1 - order], pair.prompt.text])


def true_preference(pair, order):
    """Read off the server's own candidates, exactly as far as floats go."""
    masses = {"A": 0.0, "B": 0.0}
    for token, logprob in truth(question(pair, order)):
        if token.strip(" ▁") in masses:
            masses[token.strip(" ▁")] += math.exp(logprob)
    return masses["AB"[order]] / sum(masses.values())


def asked_about(pairs):
    return {question(pair, order) for pair in pairs.values() if pair.sample.text != pair.reference for order in (0, 1)}


def preferences(verdicts):
    return {cell: (verdict.preference, verdict.orders) for cell, verdict in verdicts.items()}


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_every_verdict_is_had_once_and_equals_that_of_a_server_without_faults(tmp_path, seed):
    pairs = chat_pairs(chat_config(), 320)
    with JudgeServer() as server:
        expected = judge(server, pairs, tmp_path / "good.jsonl")
        assert len(server.asked) == len(asked_about(pairs)), "duplicates and identical texts cost nothing"
    with JudgeServer(shares=SHARES, seed=seed) as server:
        found = judge(server, pairs, tmp_path / "bad.jsonl")
        assert set(server.sent) == {*TRANSPORT, *HOSTILE}, "every fault was met"
        assert set(server.answered) == asked_about(pairs)
        assert set(server.answered.values()) == {1}, "none was answered twice"
        replied = sum(server.replied.values())
    lines = read_jsonl(tmp_path / "bad.jsonl", Verdict, mend="")
    assert len(lines) == len({line.cell for line in lines}) == len(pairs)
    assert sum(line.calls for line in lines) == replied == sum(len(line.raw) for line in lines), "all are kept"
    assert preferences(found) == preferences(expected), "bit for bit"
    for cell, pair in pairs.items():
        if pair.sample.text == pair.reference:
            assert (found[cell].preference, found[cell].orders, found[cell].calls) == (0.5, (), 0)
        else:
            assert found[cell].orders == pytest.approx([true_preference(pair, order) for order in (0, 1)], abs=1e-12)
            assert found[cell].preference == sum(found[cell].orders) / 2


def test_the_log_alone_gives_every_preference_again(tmp_path):
    pairs = chat_pairs(chat_config(), 100)
    with JudgeServer(shares=SHARES | {"hang": 0.0}) as server:
        found = judge(server, pairs, tmp_path / "log.jsonl")
    assert any(len(verdict.raw) > 2 for verdict in found.values())
    for verdict in found.values():
        if verdict.calls:
            orders = [None, None]
            for raw in verdict.raw:
                if (preference := reparse(raw, chat_config())) is not None:
                    assert orders[json.loads(raw)["order"]] is None, "the reply that was read is the last one asked for"
                    orders[json.loads(raw)["order"]] = preference
            assert tuple(orders) == verdict.orders


@pytest.mark.parametrize("changes", [{"orders": "one"}, {"verdict": "reply", "max_tokens": 9}])
def test_faults_change_nothing_with_one_order_or_named_verdicts_either(tmp_path, changes):
    config = chat_config(**changes)
    pairs = chat_pairs(config, 150)
    with JudgeServer() as server:
        expected = judge(server, pairs, tmp_path / "good.jsonl", config)
    with JudgeServer(shares=SHARES | {"hang": 0.0}) as server:
        assert preferences(judge(server, pairs, tmp_path / "bad.jsonl", config)) == preferences(expected)
        assert set(server.answered.values()) == {1}
    assert len(expected) == len(pairs)


def test_a_pair_whose_every_reply_is_hostile_fails_with_the_replies_kept_and_is_asked_again(tmp_path):
    pairs = chat_pairs(chat_config(), 120)
    doomed = {cell for cell, pair in pairs.items() if "prompt 3" in pair.prompt.text and cell[2] % 10 != 9}
    log = tmp_path / "log.jsonl"
    with JudgeServer(doomed="prompt 3") as server:
        found = judge(server, pairs, log)
        assert set(pairs) - set(found) == doomed
        failed = [line for line in read_jsonl(log, Verdict, mend="") if line.preference is None]
        assert {line.cell for line in failed} == doomed
        originals = [line for line in failed if line.calls]
        assert all(line.error and len(line.raw) == line.calls == 6 for line in originals), "three replies an order"
        assert all(line.orders == (None, None) for line in failed)
        before = len(server.asked)
        assert set(judge(server, pairs, log)) == set(found)
        assert len(server.asked) == before + 6 * len(originals), "asked again, and nothing else is"
        server.doomed = None
        assert set(judge(server, pairs, log)) == set(pairs)
        assert set(server.answered.values()) == {1}
    with JudgeServer() as server:
        expected = judge(server, pairs, tmp_path / "good.jsonl")
    assert preferences({v.cell: v for v in read_jsonl(log, Verdict, mend="") if v.preference is not None}) == (
        preferences(expected)
    )


def after(number, answer):
    """Answer the first requests, then always this."""
    seen = []

    def special(asked, before):
        seen.append(asked)
        return answer if len(seen) > number else None

    return special


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (as_json(429, LOW_CREDIT), "no credit"),
        (as_json(402, {"error": {"message": "pay", "code": 402}}), "no credit"),
        (as_json(401, {"error": "no"}), "the key is refused"),
        (as_json(403, ["no"]), "20 questions in a row failed (access is refused"),
        (Answer(404, b"not found"), "20 questions in a row failed (no such model or address"),
        (as_json(429, {"error": {"message": "slow down"}}), "nothing was answered between 8 pauses"),
        (as_json(503, {}), "20 questions in a row failed (HTTP 503"),
        (Answer(200, cut=-1), "20 questions in a row failed ("),
        (as_json(400, {"error": {"message": "too long"}}), "20 questions in a row failed (HTTP 400: too long)"),
        (as_json(200, {"choices": [{"message": {"content": "A"}}]}), "take a judge with `verdict: reply`"),
    ],
)
def test_a_server_that_answers_no_more_stops_the_judge_and_the_same_command_goes_on(tmp_path, answer, says):
    pairs = chat_pairs(chat_config(), 90)
    log = tmp_path / "log.jsonl"
    with JudgeServer(special=after(61, answer)) as server:
        with pytest.raises(UserError) as caught:
            judge(server, pairs, log, concurrency=4)
        message = str(caught.value)
        assert says in message
        assert "hash at 127.0.0.1" in message
        assert message.endswith("the same command goes on")
        assert "\n" not in message
        assert len(server.asked) < 61 + 28 * 8, "it gave up"
        assert sum(server.answered.values()) == 61
        server.special = lambda _asked, _before: None
        found = judge(server, pairs, log)
        assert set(found) == set(pairs)
        assert set(server.answered) == asked_about(pairs)
        assert set(server.answered.values()) == {1}, "what was answered before, half a pair as well, is not asked again"
    with JudgeServer() as server:
        assert preferences(judge(server, pairs, tmp_path / "good.jsonl")) == preferences(found)


def test_a_rate_limit_that_lets_a_few_through_between_pauses_ends_with_every_verdict(tmp_path):
    state = {"left": 5}

    def special(asked, before):
        state["left"] -= 1
        if state["left"] == -9:
            state["left"] = 5
        return as_json(429, {"error": "slow down"}, Retry_After="0.002") if state["left"] < 0 else None

    pairs = chat_pairs(chat_config(), 60)
    with JudgeServer(special=special) as server:
        assert set(judge(server, pairs, tmp_path / "log.jsonl", concurrency=8)) == set(pairs)
        assert set(server.answered.values()) == {1}


def test_questions_that_always_fail_keep_no_others_waiting(tmp_path):
    config = chat_config(orders="one")
    pairs = chat_pairs(config, 100)
    hopeless = {cell for cell, pair in pairs.items() if cell[2] < 30 and pair.sample.text != pair.reference}
    refuse = {pairs[cell].prompt.text for cell in hopeless}

    def special(asked, before):
        return as_json(400, {"error": {"message": "no"}}) if json.loads(asked.question)[2] in refuse else None

    log = tmp_path / "log.jsonl"
    with JudgeServer(special=special) as server:
        with pytest.raises(UserError, match="20 questions in a row failed"):
            judge(server, pairs, log, config, concurrency=1)
        before = [asked.question for asked in server.asked]
        found = judge(server, pairs, log, config, concurrency=1)
        again = [asked.question in before for asked in server.asked[len(before) :]]
    assert again == sorted(again), "what was never asked comes first"
    assert sum(again) == 20
    assert set(pairs) - set(found) == hopeless


@pytest.mark.parametrize(("status", "message"), [(400, "maximum context length"), (429, "Request too large for m")])
def test_a_question_that_is_refused_fails_alone(tmp_path, status, message):
    def special(asked, before):
        long = "text 24 for" in asked.question
        return as_json(status, {"error": {"message": message, "code": "x"}}) if long else None

    pairs = chat_pairs(chat_config(), 40)
    with JudgeServer(special=special) as server:
        found = judge(server, pairs, tmp_path / "log.jsonl")
        refused = [asked for asked in server.asked if "text 24 for" in asked.question]
    assert {cell[2] for cell in set(pairs) - set(found)} == {24}
    assert len(refused) == 2, "one refusal an order is enough"
    (failed,) = (line for line in read_jsonl(tmp_path / "log.jsonl", Verdict, mend="") if line.preference is None)
    assert failed.error == f"HTTP {status}: {message}"
    assert (failed.raw, failed.calls) == ((), 0)


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize(("refused", "stops"), [("text 24 for", 0), ("text 0 for", 1)])
def test_a_question_of_which_access_is_refused_keeps_the_rest_from_no_answer_for_ever(tmp_path, status, refused, stops):
    def special(asked, before):
        return as_json(status, {"error": {"message": "filtered"}}) if refused in asked.question else None

    pairs, log = chat_pairs(chat_config(), 40), tmp_path / "log.jsonl"
    says = rf"(refused|no such model or address) \(HTTP {status}: filtered"
    with JudgeServer(special=special) as server:
        for _ in range(stops):
            with pytest.raises(UserError, match=says):
                judge(server, pairs, log, concurrency=1)
            assert len(server.asked) == 1, "nothing was answered yet, and nothing else is asked"
        for _ in range(2):
            found = judge(server, pairs, log, concurrency=1)
            assert [cell[2] for cell in set(pairs) - set(found)] == [int(refused.split()[1])]
        assert set(server.answered.values()) == {1}
    failed = [line for line in read_jsonl(log, Verdict, mend="") if line.preference is None]
    assert all(f"HTTP {status}: filtered" in line.error for line in failed)


@pytest.mark.parametrize("status", [403, 404])
def test_a_wrong_model_or_address_stops_the_judge_at_once_every_time(tmp_path, status):
    pairs, log = chat_pairs(chat_config(), 90), tmp_path / "log.jsonl"
    with JudgeServer(special=lambda *_: Answer(status, b"no")) as server:
        for run in (1, 2):
            with pytest.raises(UserError, match=rf"(access is refused|no such model or address) \(HTTP {status}"):
                judge(server, pairs, log, concurrency=4)
            assert len(server.asked) <= 4 * run
        server.special = lambda *_: None
        assert set(judge(server, pairs, log)) == set(pairs)


def test_half_an_answer_is_kept_and_only_the_other_half_asked(tmp_path):
    def special(asked, before):
        sample_first = json.loads(asked.question)[0].startswith("text")
        return None if sample_first else as_json(200, {"choices": [{"message": {"content": "?"}}]})

    config, log = chat_config(), tmp_path / "log.jsonl"
    pairs = chat_pairs(config, 5)
    with JudgeServer(special=special) as server:
        assert judge(server, pairs, log) == {}
        for line in read_jsonl(log, Verdict, mend=""):
            assert line.orders == (pytest.approx(true_preference(pairs[line.cell], 0), abs=1e-12), None)
            assert line.calls == 4
            assert line.prompt_tokens > 0, "what was counted is in the log of a failure as well"
        assert judge(server, pairs, log) == {}
        assert all(line.orders[0] is not None for line in read_jsonl(log, Verdict, mend="")), "kept through failures"
        server.special = lambda _asked, _before: None
        found = judge(server, pairs, log)
        assert set(server.answered.values()) == {1}
        assert set(server.answered) == asked_about(pairs)
    assert all(verdict.calls == len(verdict.raw) == 1 for verdict in found.values()), "the new call alone"
    with JudgeServer() as server:
        expected = judge(server, pairs, tmp_path / "good.jsonl")
    assert preferences(expected) == preferences(found)


# --- a real process -------------------------------------------------------------------------------------------------

PROCESS = """
import signal, sys
from pathlib import Path
from judge_server import chat_config, chat_pairs
from benchmark.judging.chat import ChatJudge, Pace
from benchmark.judging.judge import judge_pairs
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is born deaf to it
config = chat_config()
judge = ChatJudge(config, base_url=sys.argv[1], concurrency=8, pace=Pace(batch=8, batch_seconds=0.02))
judge_pairs(judge, chat_pairs(config, 120), Path(sys.argv[2]))
"""


def run_process(url, log, processes):
    """Judge in a process of its own, which is put into the list; returns what it wrote on stderr."""
    root = Path(__file__).resolve().parents[3]
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    command = [sys.executable, "-c", PROCESS, url, str(log)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, cwd=log.parent) as process:
        processes.append(process)
        try:
            return process.communicate(timeout=120)[1]
        finally:
            process.kill()


def test_a_killed_judge_goes_on_and_nothing_that_was_written_is_asked_again(tmp_path):
    log, pairs = tmp_path / "log.jsonl", chat_pairs(chat_config(), 120)
    processes, seen = [], []

    def special(asked, before):
        seen.append(asked)
        if len(seen) == 120:
            os.kill(processes[0].pid, signal.SIGKILL)

    with JudgeServer(special=special, latency=0.01) as server:
        run_process(server.url, log, processes)
        assert processes[0].returncode == -signal.SIGKILL
        lines = log.read_bytes().split(b"\n")[:-1]
        written = [verdict for verdict in map(Verdict.model_validate_json, lines) if verdict.calls]
        assert len(written) > 10
        assert judge(server, pairs, log).keys() == pairs.keys()
        counts = server.answered
    for line in written:
        assert [counts[question(pairs[line.cell], order)] for order in (0, 1)] == [1, 1]
    with JudgeServer() as server:
        expected = judge(server, pairs, tmp_path / "good.jsonl")
    assert preferences({v.cell: v for v in read_jsonl(log, Verdict, mend="")}) == preferences(expected)


def test_an_interrupted_judge_writes_all_it_was_told_and_waits_for_nothing(tmp_path):
    log, pairs = tmp_path / "log.jsonl", chat_pairs(chat_config(), 120)
    processes, seen = [], []

    def special(asked, before):
        seen.append(asked)
        # All eight workers wait: what was answered before has been read.
        if len(seen) == 101 + 8:
            os.kill(processes[0].pid, signal.SIGINT)
        return Answer(200, hang=True) if len(seen) > 101 else None

    with JudgeServer(special=special) as server:
        stderr = run_process(server.url, log, processes)
        assert stderr.rstrip().endswith(b"KeyboardInterrupt")
        lines = read_jsonl(log, Verdict, mend="")
        assert sum(order is not None for line in lines if line.calls for order in line.orders) == 101
        halves = [line for line in lines if line.preference is None]
        assert len(halves) % 2 == 1
        assert {line.error for line in halves} == {"not finished: interrupted"}
        server.special = lambda _asked, _before: None
        found = judge(server, pairs, log)
        assert set(server.answered.values()) == {1}
    assert set(found) == set(pairs)


def test_the_report_counts_every_reply_of_every_run_once(tmp_path):
    log, pairs = tmp_path / "log.jsonl", chat_pairs(chat_config(), 120)
    config = chat_config(price=Price(input=2.0, output=8.0, as_of="today"))
    processes, seen = [], []

    def special(asked, before):
        seen.append(asked)
        if len(seen) == 101 + 8:
            os.kill(processes[0].pid, signal.SIGINT)
        return Answer(200, hang=True) if len(seen) > 101 else None

    hostile = {kind: portion for kind, portion in SHARES.items() if kind in HOSTILE}
    with JudgeServer(special=special, shares=hostile, doomed="prompt 3") as server:
        run_process(server.url, log, processes)
        counts = [sum(server.replied.values())]
        server.special, server.shares = lambda _asked, _before: None, SHARES | {"hang": 0.0}
        for doomed in ("prompt 3", None):
            server.doomed = doomed
            judge(server, pairs, log, config)
            counts.append(sum(server.replied.values()))
        tokens, untold = server.tokens, server.untold
        assert set(server.answered) == asked_about(pairs)
    assert 0 < counts[0] < counts[1] < counts[2]
    lines = read_jsonl(log, Verdict, mend="")
    assert len(lines) > len(pairs), "some failed first"
    found = report(config, "t", pairs, lines)
    assert (found.judged, found.failed) == (len(pairs), 0)
    assert found.calls == counts[-1]
    assert [found.prompt_tokens, found.completion_tokens] == tokens
    assert found.cost == pytest.approx((tokens[0] * 2.0 + tokens[1] * 8.0) / 1e6)
    assert sum(line.uncounted for line in lines) == untold > 0


def test_a_log_that_cannot_be_written_ends_the_judging_with_that_error():
    written = []

    def write(verdicts):
        if written:
            raise OSError(28, "No space left on device")
        written.extend(verdicts)

    pairs = list({pair.key: pair for pair in chat_pairs(chat_config(), 400).values()}.values())
    with JudgeServer() as server:
        with pytest.raises(OSError, match="No space left"):
            ChatJudge(chat_config(), base_url=server.url, concurrency=2, pace=QUICK).judge(pairs, write)
        assert len(server.asked) < 300, "nothing more is paid for"
    assert len(written) <= QUICK.batch


def test_a_template_that_fails_in_the_middle_ends_the_judging_after_what_was_answered_is_written(tmp_path):
    template = "{{ 1 // (prompt != 'prompt 22') }} {{ [first, second, prompt] | tojson }}"
    config, log = chat_config(user=template), tmp_path / "log.jsonl"
    with JudgeServer() as server:
        with pytest.raises(UserError, match=r"hash: its template fails on 22 of t: ZeroDivisionError"):
            judge(server, chat_pairs(config, 60), log, config, concurrency=1)
        told = [order for line in read_jsonl(log, Verdict, mend="") if line.calls for order in line.orders]
    assert len([order for order in told if order is not None]) == sum(server.answered.values()) > 20


def test_the_server_answers_as_the_protocol_says():
    """The server is what all is measured against: a client that is not ours reads it."""
    from openai import OpenAI

    with JudgeServer() as server, OpenAI(base_url=server.url, api_key="none") as client:
        reply = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "q"}], logprobs=True, top_logprobs=20, max_tokens=1
        )
    top = reply.choices[0].logprobs.content[0].top_logprobs
    assert [(entry.token, entry.logprob) for entry in top] == truth("q")
    assert math.fsum(math.exp(p) for _, p in truth("q")) == pytest.approx(1)
    assert reply.usage.total_tokens == completion("q", {"messages": [{"content": "q"}]})["usage"]["total_tokens"]
