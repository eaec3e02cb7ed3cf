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


def test_a_suite_that_is_not_the_worlds_own_has_folders_and_reports_of_its_own(tmp_path):
    def setting(suite):
        return Setting(load_world("real-text", tmp_path, suite), (1,), tmp_path, tmp_path)

    own, named = setting(None), setting("real-text-summarisation@v1")
    other = setting("real-text-instructions")
    assert own.folder("kl") == named.folder("kl") == tmp_path / "kl-real-text"
    assert other.folder("kl") == tmp_path / "kl-real-text-instructions@v1"
    assert other.report("kl") != own.report("kl")
