"""Sharded weights (FSDP version 2), on a CPU in a process group of one: what is read off them is whole."""

import subprocess
import sys

import pytest

SHARDED = """
import os, sys
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", RANK="0", WORLD_SIZE="1")
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from benchmark.reward_model import score_sequences
from reference_models.models import load_tokenizer
from reference_models.reward_model import RewardModelArguments, Scorer, with_new_head
from reference_models.training import Training

torch.set_num_threads(1)
model_folder, data, output, store = sys.argv[1:]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
args = RewardModelArguments(model=model_folder, data=data, output=output, steps=3, batch_size=2, learning_rate=1e-2)
tokenizer = load_tokenizer(model_folder)
ids = torch.tensor([[3, 4, 5, 1], [6, 7, 8, 1]])
sequences = ids.tolist()
found = []
for shard in (False, True):
    run = Training(args, "reward-model", inputs=("model", "data"), shown=())
    with run:
        model = with_new_head(model_folder, tokenizer, 1)
        scorer = Scorer(model)
        if shard:
            mesh = init_device_mesh("cpu", (1,))
            for layer in model.model.layers:
                fully_shard(layer, mesh=mesh)
            fully_shard(scorer, mesh=mesh)
        prepare = run.accelerator.prepare
        run.accelerator.prepare = lambda module, optimizer: (module, optimizer)  # it is wrapped already
        run.prepare(scorer, lambda folder: run.save_model(model, folder, prefix="model."))
        assert run.is_sharded == shard
        for _ in (1, 2):
            run.descend([ids], lambda ids: scorer(ids, torch.ones_like(ids)).sum(), count=2)
        run.step = 2
        run._save()
        with torch.no_grad():
            for _, parameter in run._trained():
                parameter.mul_(0)
        run._load(run._states()[-1])
        whole = run.whole(model, prefix="model.")
        assert (whole is model) == (not shard)
        found.append(score_sequences(whole, sequences))
        for path in run.partial.glob("state-*"):
            path.unlink()
assert torch.allclose(torch.tensor(found[0]), torch.tensor(found[1]), atol=1e-6), found
print("equal")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_a_sharded_reward_model_is_saved_taken_up_again_and_scored_as_a_whole_one(llama, data, tmp_path):
    words = [str(llama), str(data / "preferences.jsonl"), str(tmp_path / "rm"), str(tmp_path / "store")]
    ran = subprocess.run([sys.executable, "-c", SHARDED, *words], capture_output=True, text=True)
    assert ran.stdout.strip().endswith("equal"), ran.stderr[-3000:]
