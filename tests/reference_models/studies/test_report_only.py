"""``--only report`` makes nothing: where something is missing, it says so."""

import pytest

from benchmark.errors import UserError
from reference_models.studies import kl, seeds
from reference_models.studies.setting import Setting
from reference_models.studies.world import load_world


@pytest.mark.parametrize("study", [kl, seeds])
def test_a_report_of_what_is_not_there_is_refused_and_nothing_is_trained(study, tmp_path):
    world = load_world("pocket", tmp_path / "ladders")
    with pytest.raises(UserError, match="not done"):
        study.report(Setting(world, (1,), tmp_path / "out", tmp_path / "results", command="gendiv …"))
    assert not list(tmp_path.iterdir())
