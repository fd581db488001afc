"""The data of a fleet: in memory or in a folder, whole or with a part held out, never mixed up."""

import io
import json
import pickle
import threading

import numpy as np
import pytest
import torch

from fedhq.allocator.errors import DataError
from fedhq.fl_core.data.clients import ListedClients, PartitionedClients
from fedhq.fl_core.data.datasets import Dataset
from fedhq.fl_core.data.held_out import hold_out
from fedhq.fl_core.data.store import StoredClients, store_clients

NAMES = ("inputs", "labels", "offsets", "label_counts")


def make_data(num_examples: int = 30, num_classes: int = 4) -> Dataset:
    """Images whose only pixel is their number."""
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, num_classes, num_examples))
    return Dataset(torch.arange(float(num_examples)).reshape(-1, 1, 1, 1), labels, num_classes)


def make_partitioned() -> PartitionedClients:
    order = np.random.default_rng(1).permutation(30)
    return PartitionedClients(make_data(), tuple(np.split(order, [12, 13, 20])))


def make(kind: str, folder) -> PartitionedClients | ListedClients | StoredClients:
    clients = make_partitioned()
    if kind == "partitioned":
        return clients
    return ListedClients(tuple(clients)) if kind == "listed" else store_clients(folder, clients)


def marks(data: Dataset) -> list[int]:
    return data.inputs.flatten().int().tolist()


KINDS = ["partitioned", "listed", "stored"]


@pytest.mark.parametrize("kind", KINDS)
def test_clients_are_a_sequence_of_their_own_examples(kind, tmp_path) -> None:
    clients, reference = make(kind, tmp_path / "fleet"), make_partitioned()
    assert len(clients) == 4
    assert (clients.num_classes, clients.input_shape) == (4, (1, 1, 1))
    assert clients.num_examples.tolist() == [12, 1, 7, 10]
    for k, data in enumerate(clients):
        assert marks(data) == reference.parts[k].tolist()
        assert torch.equal(data.labels, reference.dataset.labels[reference.parts[k]])
        counts = torch.bincount(data.labels, minlength=4)
        assert clients.label_counts[k].tolist() == counts.tolist()
    assert marks(clients[-1]) == marks(clients[np.int64(3)]) == marks(clients[3])
    for outside in (4, -5):
        with pytest.raises(IndexError):
            clients[outside]
    for table in (clients.num_examples, clients.label_counts):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 1


@pytest.mark.parametrize("kind", KINDS)
def test_clients_and_their_held_out_parts_travel_to_other_processes(kind, tmp_path) -> None:
    clients = make(kind, tmp_path / "fleet")
    clients.label_counts  # what is cached must not stand in the way
    for sent in (clients, *hold_out(clients, 0.4, np.random.default_rng(0))):
        content = io.BytesIO()
        pickle.Pickler(content).dump(sent)
        received = pickle.loads(content.getvalue())
        assert [marks(data) for data in received] == [marks(data) for data in sent]
        assert received.fingerprint == sent.fingerprint
        if sent is clients and kind == "stored":
            assert len(content.getvalue()) < 300


@pytest.mark.parametrize("kind", KINDS)
def test_fingerprints_follow_the_content(kind, tmp_path) -> None:
    first = make(kind, tmp_path / "a").fingerprint
    assert first == make(kind, tmp_path / "b").fingerprint
    assert len(first) == 16
    datasets = list(make_partitioned())
    label = datasets[2].labels.clone()
    label[0] = (label[0] + 1) % 4
    changed = Dataset(datasets[2].inputs, label, 4)
    other_sizes = [datasets[0], datasets[1].take(np.array([], dtype=np.int64)), *datasets[2:]]
    seen = {first}
    for k, others in enumerate(([*datasets[:2], changed, datasets[3]], other_sizes)):
        if kind == "stored":
            seen.add(store_clients(tmp_path / f"c{k}", others).fingerprint)
        else:
            seen.add(ListedClients(tuple(others)).fingerprint)
    partitioned = make_partitioned()
    seen.add(PartitionedClients(partitioned.dataset, partitioned.parts[::-1]).fingerprint)
    assert len(seen) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_examples_are_the_share_and_never_trained_on(kind, tmp_path) -> None:
    clients = make(kind, tmp_path / "fleet")
    train, tests = hold_out(clients, 0.3, np.random.default_rng(7))
    assert tests.num_examples.tolist() == [4, 0, 2, 3]
    assert train.num_examples.tolist() == [8, 1, 5, 7]
    for k in range(4):
        assert sorted(marks(train[k]) + marks(tests[k])) == sorted(marks(clients[k]))
        assert (len(train[k]), len(tests[k])) == (train.num_examples[k], tests.num_examples[k])
        assert marks(tests[k]) == marks(tests[k - 4])
    assert (train.label_counts + tests.label_counts == clients.label_counts).all()
    assert train.label_counts.sum(axis=1).tolist() == train.num_examples.tolist()
    other = hold_out(clients, 0.3, np.random.default_rng(8))[1]
    assert [marks(data) for data in other] != [marks(data) for data in tests]
    assert len({c.fingerprint for c in (clients, train, tests, other)}) == 4


def test_a_little_held_out_is_one_example_and_everything_leaves_one() -> None:
    clients = make_partitioned()
    assert hold_out(clients, 1e-9, np.random.default_rng(0))[1].num_examples.tolist() == [
        1,
        0,
        1,
        1,
    ]
    assert hold_out(clients, 0.999, np.random.default_rng(0))[0].num_examples.tolist() == [1] * 4
    for share in (0, 1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="0 < share < 1"):
            hold_out(clients, share, np.random.default_rng(0))


def test_parts_outside_the_data_and_clients_that_differ_are_refused(tmp_path) -> None:
    data = make_data()
    for parts, rule in (
        ((np.array([0]), np.array([3, 30])), "0 <= index < 30.*client 1 has 3 ... 30"),
        ((np.array([-1]),), "client 0 has -1"),
        ((), "at least one client"),
    ):
        with pytest.raises(ValueError, match=rule):
            PartitionedClients(data, parts)
    others = {
        "shape": Dataset(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), 4),
        "type": Dataset(data.inputs.double(), data.labels, 4),
        "classes": Dataset(data.inputs, data.labels, 5),
        "labels": Dataset(data.inputs, data.labels[:, None], 4),
    }
    for name, other in others.items():
        with pytest.raises(ValueError, match=r"client 1 has .* and client 0"):
            ListedClients((data, other))
        with pytest.raises(ValueError, match=r"client 1 has .* and client 0"):
            store_clients(tmp_path / name, [data, other])
    with pytest.raises(ValueError, match="at least one client"):
        ListedClients(())
    assert list(tmp_path.iterdir()) == []


def test_stored_texts_come_back_with_a_label_for_every_character(tmp_path) -> None:
    characters = torch.arange(24).reshape(6, 4) % 7
    texts = Dataset(characters, (characters + 1) % 7, 7)
    clients = store_clients(tmp_path / "texts", [texts, texts.take(np.array([2]))])
    assert torch.equal(clients[0].inputs, characters)
    assert torch.equal(clients[1].labels, texts.labels[2:3])
    assert clients.label_counts.sum(axis=1).tolist() == [24, 4]


def test_what_is_stored_any_numpy_reads_and_what_one_client_gets_is_its_own_copy(tmp_path) -> None:
    clients = make("stored", tmp_path / "fleet")
    assert sorted(p.name for p in (tmp_path / "fleet").iterdir()) == [
        "header.json",
        *sorted(f"{name}.npy" for name in NAMES),
    ]
    arrays = {n: np.load(tmp_path / "fleet" / f"{n}.npy", allow_pickle=False) for n in NAMES}
    assert arrays["offsets"].tolist() == [0, 12, 13, 20, 30]
    assert arrays["inputs"][13:20].flatten().tolist() == marks(clients[2])
    clients[2].inputs.fill_(-1)
    assert min(marks(clients[2])) >= 0


def test_a_folder_is_written_once_and_whole_or_not_at_all(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "fleet"

    def breaks():
        yield make_data()
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        store_clients(folder, breaks())
    with pytest.raises(ValueError, match="at least one client"):
        store_clients(folder, [])
    nothing = make_data().take(np.array([], dtype=np.int64))
    with pytest.raises(ValueError, match="at least one example"):
        store_clients(folder, [nothing, nothing])
    with pytest.raises(DataError, match=r"can be written.*No such file.*free space"):
        store_clients(tmp_path / "missing" / "fleet", [make_data()])
    assert list(tmp_path.iterdir()) == []
    store_clients(folder, [nothing, make_data()])
    with pytest.raises(ValueError, match="must not exist yet"):
        store_clients(folder, [make_data()])
    assert StoredClients(folder).num_examples.tolist() == [0, 30]
    assert len(StoredClients(folder)[0]) == 0


def test_damage_is_noticed_when_a_folder_is_opened(tmp_path) -> None:
    folder = tmp_path / "fleet"
    make("stored", folder)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        wrong = [whole[:-2], whole + b"0", b"", whole[:20]]
        if path.name == "header.json":
            wrong += [whole.replace(b'"num_classes": 4', b'"num_classes": 5'), b"[]", b"{}"]
        else:
            wrong.append(whole.replace(b"<i8", b"<u8").replace(b"<f4", b"<i4"))
        for content in wrong:
            path.write_bytes(content)
            with pytest.raises(DataError, match=path.name.removesuffix(".json")):
                StoredClients(folder)
        path.unlink()
        with pytest.raises(DataError, match="fleet"):
            StoredClients(folder)
        path.write_bytes(whole)
    assert len(StoredClients(folder)) == 4
    offsets = np.load(folder / "offsets.npy")
    np.save(folder / "offsets.npy", np.array([0, 13, 12, 20, 30]))
    with pytest.raises(DataError, match=r"offsets.npy must lead through all examples"):
        StoredClients(folder)
    np.save(folder / "offsets.npy", offsets)
    header = json.loads((folder / "header.json").read_text())
    (folder / "header.json").write_text(json.dumps(header | {"version": 2}))
    with pytest.raises(DataError, match="must have version 1, but has 2"):
        StoredClients(folder)


def test_files_that_shrink_or_vanish_while_they_are_open_are_noticed(tmp_path) -> None:
    clients = make("stored", tmp_path / "fleet")
    path = tmp_path / "fleet" / "inputs.npy"
    path.write_bytes(path.read_bytes()[:-4])
    assert len(clients[0]) == 12
    with pytest.raises(DataError, match=r"inputs.npy must hold rows 20 ... 30"):
        clients[3]
    path.unlink()
    with pytest.raises(DataError, match=r"inputs\.npy"):
        clients[0]


def test_many_threads_may_read_one_store(tmp_path) -> None:
    clients, reference = make("stored", tmp_path / "fleet"), make_partitioned()
    wrong: list[int] = []

    def read() -> None:
        wrong.extend(
            k for _ in range(50) for k in range(4) if marks(clients[k]) != marks(reference[k])
        )

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
