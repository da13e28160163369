import json

import pytest
import torch
from model_toys import normal, whole
from videoldm.core.tasks import chunk_store
from videoldm.core.tasks.chunk_store import ChunkStore, ChunkStoreError, settings_hash

SETTINGS = {"seed": 3, "size": (1, 4, 2, 2), "prompt": "a red circle"}
CHUNKS = [normal(1, n, 4, 2, 2, seed=n) for n in (5, 3, 1)]


def filled(folder, chunks=CHUNKS) -> ChunkStore:
    store = ChunkStore(folder, SETTINGS)
    list(store.extend(chunks))
    return store


def test_chunks_come_back_bit_for_bit(tmp_path):
    filled(tmp_path)
    again = ChunkStore(tmp_path, SETTINGS)
    assert (len(again), again.frames) == (3, 9)
    assert torch.equal(again.done(), whole(CHUNKS))
    assert all(torch.equal(a, b) for a, b in zip(again.chunks(), CHUNKS, strict=True))


def test_an_empty_store_has_nothing_done_and_writes_nothing(tmp_path):
    store = ChunkStore(tmp_path / "run", SETTINGS)
    assert store.done() is None and store.frames == 0
    assert not (tmp_path / "run").exists()


def test_chunks_are_on_disk_before_they_are_yielded(tmp_path):
    store = ChunkStore(tmp_path, SETTINGS)
    for k, _ in enumerate(store.extend(CHUNKS), start=1):
        assert len(ChunkStore(tmp_path, SETTINGS)) == k


def test_a_chunk_that_the_manifest_does_not_name_is_made_again(tmp_path):
    store = filled(tmp_path, CHUNKS[:1])
    (tmp_path / "chunk_00001.safetensors").write_bytes(b"half")
    again = ChunkStore(tmp_path, SETTINGS)
    assert again.frames == 5
    again.append(CHUNKS[1])
    assert torch.equal(ChunkStore(tmp_path, SETTINGS).done(), whole(CHUNKS[:2]))
    assert len(store) == 1


def test_the_manifest_of_other_settings_is_refused_with_both_values(tmp_path):
    filled(tmp_path)
    with pytest.raises(ChunkStoreError, match="holds chunks made with seed 3, not 4"):
        ChunkStore(tmp_path, SETTINGS | {"seed": 4})
    with pytest.raises(ChunkStoreError, match="made with steps None, not 20"):
        ChunkStore(tmp_path, SETTINGS | {"steps": 20})
    assert torch.equal(ChunkStore(tmp_path, SETTINGS).done(), whole(CHUNKS))


def test_broken_folders_are_one_sentence(tmp_path):
    filled(tmp_path)
    path = tmp_path / "chunk_00001.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ChunkStoreError, match="chunk_00001.safetensors cannot be read"):
        ChunkStore(tmp_path, SETTINGS).done()
    path.write_bytes((tmp_path / "chunk_00000.safetensors").read_bytes())
    with pytest.raises(ChunkStoreError, match=r"\[1, 5, 4, 2, 2\], but the manifest says 3"):
        ChunkStore(tmp_path, SETTINGS).done()
    (tmp_path / chunk_store.MANIFEST).write_text("{")
    with pytest.raises(ChunkStoreError, match="is not a manifest"):
        ChunkStore(tmp_path, SETTINGS)


def test_a_full_disk_costs_only_the_chunk_that_did_not_fit(tmp_path, monkeypatch):
    store = filled(tmp_path, CHUNKS[:1])

    def full(tensors, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chunk_store, "save_file", full)
    with pytest.raises(ChunkStoreError, match="Chunk 1 of 192 bytes .* No space left"):
        store.append(CHUNKS[1])
    monkeypatch.undo()
    assert torch.equal(ChunkStore(tmp_path, SETTINGS).done(), CHUNKS[0])
    store.append(CHUNKS[1])
    assert torch.equal(store.done(), whole(CHUNKS[:2]))


def test_the_hash_depends_on_values_and_not_on_their_order():
    backwards = dict(reversed(SETTINGS.items()))
    assert settings_hash(backwards) == settings_hash(SETTINGS)
    assert settings_hash(SETTINGS | {"seed": 4}) != settings_hash(SETTINGS)
    assert json.dumps(SETTINGS)  # settings are JSON values
