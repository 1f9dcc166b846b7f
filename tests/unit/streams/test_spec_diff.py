"""Training distributions of two versions held against each other, from their bins alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from models.reference import column_reference
from models.spec import ColumnReference
from streams.spec_diff import diff_references, diff_specs, recounted, reference_psi, spec_facts
from tests.unit.streams import trained_spec, wire

if TYPE_CHECKING:
    from numpy.typing import NDArray

RNG = np.random.default_rng(5)
SAMPLES = {
    "normal": RNG.normal(size=4000),
    "shifted": RNG.normal(0.7, 1.0, size=3000),
    "with gaps": np.where(RNG.random(2000) < 0.2, np.nan, RNG.normal(size=2000)),
    "half zero": np.where(RNG.random(2000) < 0.5, 0.0, np.abs(RNG.normal(size=2000))),
    "constant": np.full(50, 3.0),
    "two values": np.repeat([1.0, 2.0], 30),
    "boolean": np.repeat([0.0, 1.0, np.nan], [40, 30, 5]),
    "far away": RNG.normal(100.0, 1.0, size=500),
}
REFERENCES = {name: column_reference(values) for name, values in SAMPLES.items()}


def rows(reference: ColumnReference, into: ColumnReference) -> NDArray[np.float64]:
    counts = recounted(reference, into)
    assert counts is not None
    return counts


@pytest.mark.parametrize("name", SAMPLES)
def test_a_distribution_in_its_own_bins_is_its_own_counts(name: str) -> None:
    reference = REFERENCES[name]
    assert rows(reference, reference).tolist() == list(reference.counts)
    assert reference_psi(reference, reference) == 0.0


@pytest.mark.parametrize("other", [name for name in SAMPLES if name != "boolean"])
@pytest.mark.parametrize("name", SAMPLES)
def test_in_other_bins_no_row_is_lost_and_none_is_negative(name: str, other: str) -> None:
    counts = rows(REFERENCES[name], REFERENCES[other])
    assert counts.sum() == pytest.approx(sum(REFERENCES[name].counts))
    assert counts.min() >= 0.0
    assert counts[-1] == REFERENCES[name].counts[-1]


@pytest.mark.parametrize("other", ["normal", "shifted", "with gaps", "far away", "constant"])
@pytest.mark.parametrize("name", ["normal", "shifted", "with gaps", "constant"])
def test_in_other_bins_it_is_what_the_values_themselves_are_there_within_a_bin(name: str, other: str) -> None:
    values, edges = SAMPLES[name], np.array(REFERENCES[other].edges)
    below = np.array([np.sum(values <= edge) for edge in edges])
    estimated = np.cumsum(rows(REFERENCES[name], REFERENCES[other]))[: edges.size]
    bin_rows = 0 if name == "constant" else max(REFERENCES[name].counts[:-1])
    assert np.abs(estimated - below).max() <= bin_rows


CODES = np.repeat([3.0, 10.0, 45.0, np.nan], [10, 20, 30, 5])
SECTORS = column_reference(CODES, levels="auto")


def test_levels_are_recounted_by_value_and_what_the_other_does_not_know_is_other() -> None:
    assert rows(SECTORS, SECTORS).tolist() == list(SECTORS.counts)
    fewer = column_reference(CODES, levels=(10.0, 45.0))
    assert rows(SECTORS, fewer).tolist() == list(fewer.counts) == [20, 30, 10, 5]
    assert rows(fewer, SECTORS).tolist() == [0, 20, 30, 10, 5]
    assert reference_psi(SECTORS, SECTORS) == 0.0
    moved = reference_psi(SECTORS, column_reference(np.repeat([3.0, 10.0, 45.0], [40, 10, 10]), levels="auto"))
    assert moved is not None
    assert moved > 0.5


def test_levels_in_bins_are_exact_and_bins_in_levels_unknown() -> None:
    binned = column_reference(CODES)
    assert rows(SECTORS, binned).tolist() == list(binned.counts)
    assert recounted(binned, SECTORS) is None
    assert reference_psi(SECTORS, binned) is None
    assert recounted(column_reference(CODES, levels=(10.0,)), binned) is None  # of what value is the rest?


def test_psi_grows_with_the_distance_and_is_unknown_without_rows() -> None:
    near, far = (reference_psi(REFERENCES["normal"], REFERENCES[name]) for name in ("shifted", "far away"))
    assert near is not None
    assert far is not None
    assert 0.2 < near < 1.0 < far
    assert reference_psi(REFERENCES["normal"], ColumnReference(edges=(0.0,), counts=(0, 0, 0), low=0.0, high=0.0)) is None


def test_specs_that_agree_have_no_difference_and_each_change_is_named() -> None:
    spec = wire.spec()
    assert not any(diff_specs(spec, spec).values())
    first, *rest = spec.columns
    other = msgspec.structs.replace(
        spec,
        level=0.8,
        columns=(*rest, msgspec.structs.replace(first, name="new"), msgspec.structs.replace(first, required=False)),
        residuals=(0.1,),
    )
    said = diff_specs(spec, other)
    assert said["facts"] == {"level": [spec.level, 0.8], "residuals": [len(spec.residuals), 1]}
    assert (said["columns_added"], said["columns_removed"]) == (["new"], [])
    assert said["columns_changed"] == {first.name: {"required": [True, False]}}
    assert said["columns_reordered"] is True
    assert diff_specs(other, spec)["columns_removed"] == ["new"]
    watched = trained_spec.spec()
    assert diff_specs(spec, watched)["facts"] == {"levels": [[], ["vol_20.lag1"]], "components": [0, 1]}
    facts = msgspec.json.decode(msgspec.json.encode(spec_facts(watched)))
    assert facts["reconstruction"] == {"components": 1, "explained": 0.75}
    assert facts["loss_estimate"]["squared"] == {"mean": 0.0005, "explained": 0.0}
    sets = msgspec.structs.replace(spec, feature_sets={})
    assert diff_specs(spec, sets)["feature_sets"] == dict.fromkeys(spec.feature_sets, "removed")


def test_facts_are_plain_values() -> None:
    spec = wire.spec()
    facts = msgspec.json.decode(msgspec.json.encode(spec_facts(spec)))
    assert facts["spec_digest"] == spec.digest()
    assert (facts["level_columns"], facts["rows_per_instant"]) == ([], 1.0)
    assert (facts["reconstruction"], facts["loss_estimate"]) == (None, None)
    assert set(diff_references(spec, spec).values()) <= {0.0}
