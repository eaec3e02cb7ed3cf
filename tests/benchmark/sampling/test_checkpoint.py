"""Which model it is: everything that changes its words, nothing of this machine, no secret."""

from benchmark.sampling.checkpoint import locate, public_arguments, weights_sha256


def folder_with(path, **files):
    path.mkdir()
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    return path


def test_every_file_that_changes_a_models_words_changes_its_hash(tmp_path):
    files = {
        "model__safetensors": "w",
        "config__json": "{}",
        "merges__txt": "a b",
        "chat_template__jinja": "x",
        "m__py": "1",
    }
    base = weights_sha256(folder_with(tmp_path / "base", **files))
    for number, name in enumerate(files):
        assert weights_sha256(folder_with(tmp_path / str(number), **files | {name: "other"})) != base
    assert weights_sha256(folder_with(tmp_path / "same", **files, training__json="{}", README__md="hello")) == base


def test_arguments_that_make_another_model_are_kept_and_secrets_and_places_are_not(tmp_path):
    adapter = folder_with(tmp_path / "adapter", adapter__safetensors="w")
    public = public_arguments(
        {
            **{"pretrained": "x", "device": "cpu", "base_url": "http://somewhere", "batch_size": 3},
            **{"api_key": "s3cret", "token": "s3cret", "hf_token": "s3cret", "password": "s3cret"},
            **{"peft": str(adapter), "load_in_4bit": True, "add_bos_token": True, "attn_implementation": "eager"},
        }
    )
    assert set(public) == {"peft", "load_in_4bit", "add_bos_token", "attn_implementation"}
    assert str(tmp_path) not in str(public)
    assert public["peft"] == f"adapter ({weights_sha256(adapter)})"
    assert locate(str(adapter)).id == "adapter"
