"""Bad input never raises, is rejected with its bytes or taken, and leaves good rows alone: a fixed budget of the fuzzer."""

from __future__ import annotations

import os
import random
import signal

import pytest

from streams.records import FeatureDecoder
from tests.fuzz import seeds
from tests.fuzz.campaign import Campaign
from tests.fuzz.mutate import damaged
from tests.fuzz.run import in_child
from tests.fuzz.world import Features, Tally

SEED = 7


def told(campaign: Campaign) -> str:
    return "\n".join(map(str, campaign.failures))


def test_named_cases() -> None:
    campaign = Campaign(SEED, most_failures=1)
    campaign.cases(every=30, rows=3_000)
    assert not campaign.failures, told(campaign)
    assert campaign.tally.messages["frame"] > 150
    reasons = {fate.split(": ")[1] for fate, n in campaign.tally.fates.items() if n}
    assert reasons >= {"undecodable", "out_of_range", "key_mismatch", "wrong_partition", "future", "unknown_feature_set"}


def test_thousands_of_damaged_and_wrong_messages() -> None:
    campaign = Campaign(SEED, most_failures=1)
    campaign.run(5_000)
    assert not campaign.failures, told(campaign)
    fates = campaign.tally.fates
    assert fates["row: taken"] > 1_000
    assert fates["frame: taken in part"] > 50
    assert fates["whole frame: undecodable"] > 500
    assert fates["taken row: conflict"] > 3


def test_a_run_is_the_same_again() -> None:
    first, again, other = (Campaign(seed) for seed in (1, 1, 2))
    for campaign in (first, again, other):
        campaign.run(400)
    assert first.tally.fates == again.tally.fates != other.tally.fates


def test_the_fuzzer_finds_what_loses_a_row_or_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = FeatureDecoder.decode

    def loses(self: FeatureDecoder, *args: object) -> object:
        batches, rejected = decode(self, *args)  # type: ignore[arg-type]  # passed on as they come
        return batches, rejected[1:]

    def raises(self: FeatureDecoder, *args: object) -> object:
        found = decode(self, *args)  # type: ignore[arg-type]  # passed on as they come
        if any("BOM" in r.detail or r.value == b"" for r in found[1]):
            raise UnicodeError("seen")
        return found

    for broken in (loses, raises):
        with monkeypatch.context() as patched:
            patched.setattr(FeatureDecoder, "decode", broken)
            campaign = Campaign(SEED, most_failures=1)
            campaign.run(3_000)
        assert len(campaign.failures) == 1
        assert f"seed {SEED}" in told(campaign)


def test_a_failure_names_the_message_that_does_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = Features.chunk

    def fails(self: Features, messages: list[tuple[bytes | None, bytes | None, tuple[()]]]) -> None:
        if any(m[1] == b"bad" for m in messages):
            raise KeyError("no")
        chunk(self, messages)

    monkeypatch.setattr(Features, "chunk", fails)
    campaign = Campaign(SEED)
    campaign._feed([(b"a", b"x", ()), (b"k", b"bad", ()), (None, None, ())], "three")
    assert "KeyError" in told(campaign)
    assert f"key {b'k'.hex()} headers [] value {b'bad'.hex()}" in told(campaign)
    assert campaign.tally.messages == Tally().messages


def test_a_process_that_dies_of_a_message_is_noticed() -> None:
    killed = in_child(lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert (killed, in_child(lambda: 3), in_child(lambda: None)) == (-signal.SIGKILL, 3, 0)


@pytest.mark.parametrize("text", [True, False])
def test_damage_is_the_same_for_a_seed_and_is_damage(*, text: bool) -> None:
    def rng(seed: int) -> random.Random:
        return random.Random(seed)  # noqa: S311 - repeatable on purpose

    good = [seeds.frame(rng(3)), b'{"a":1}', b""]
    made = [[damaged(rng(i), good[i % 3], good, text=text) for i in range(200)] for _ in range(2)]
    assert made[0] == made[1]
    assert sum(a != good[i % 3] for i, a in enumerate(made[0])) > 150
